//! COPY and ADD.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cais_types::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};

use super::remote;
use super::workdir::below;
use crate::dockerfile::instruction::Transfer;
use crate::ports::FileMemory;
use crate::request::NamedContext;
use crate::stage::{Repeat, StageRun, nop};
use crate::transfer::adopt::Adopted;
use crate::transfer::collect::{CollectError, Collected, Wanted, collect};
use crate::transfer::place::Placer;
use crate::transfer::{digest, mode, owner};

/// A file that is no part of any tree: a here-document, or what was behind a URL.
pub struct Loose {
    pub name: String,
    pub content: Content,
}

/// What it has.
pub enum Content {
    Text(String),
    Fetched { file: File, time: i64 },
}

/// What is copied, ready to be placed.
struct Ready {
    collected: Collected,
    loose: Vec<Loose>,
    /// What all of it is.
    digest: String,
    /// The destination as it is written, with its variables expanded.
    written: String,
    /// The destination from the root, and whether its name says that it is a directory.
    destination: PathBuf,
    directory: bool,
}

/// How an error begins that says all without the instruction's failure before it.
const SENTENCES: [&str; 2] = [owner::NO_SUCH_OWNER, SEVERAL];
const SEVERAL: &str = "When using";

/// Runs the instruction.
pub fn run(stage: &mut StageRun<'_>, keyword: &str, transfer: &Transfer) -> Result<()> {
    let fail = |error: Error| match error.class() {
        cais_types::ErrorClass::Unsupported | cais_types::ErrorClass::Canceled => error,
        _ if SENTENCES.iter().any(|one| error.message().starts_with(one)) => error,
        class => Error::new(class, format!("{keyword} failed: {}", error.message())),
    };
    let ready = ready(stage, keyword, transfer).map_err(fail)?;
    let chown = expand_option(stage, transfer.chown.as_deref())?;
    let chmod = expand_option(stage, transfer.chmod.as_deref())?;
    let chmod = chmod.as_deref().map(mode::parse).transpose()?;
    let created_by = format!(
        "{}{keyword} {}{} in {} ",
        nop(&stage.shell()),
        chown
            .as_ref()
            .map_or(String::new(), |owner| format!("--chown={owner}")),
        ready.digest,
        ready.written,
    );
    let unpack = format!("{:?}", transfer.unpack);
    let key = stage
        .key(&created_by)
        .with(format!("{chmod:?}"))
        .with(unpack)
        .finish();
    // The line of the history has the digest of the files, but not these.
    let repeat = Repeat {
        line: &created_by,
        files: true,
        whole: chmod.is_none() && transfer.unpack.is_none(),
    };
    if stage.cached(&key, repeat)? {
        return Ok(());
    }
    let (snapshot, root) = stage.ports.images.snapshot(stage.image.as_ref())?;
    let placed = place(
        stage,
        keyword,
        transfer,
        ready,
        root,
        chown.as_deref(),
        chmod,
    );
    let result = placed
        .and_then(|placed| placed.finish(|| stage.ports.images.upper(&snapshot)))
        .map_err(fail)
        .and_then(|given| {
            stage.commit(Some(snapshot), created_by, &key)?;
            give(stage, &given)
        });
    let discarded = stage.ports.images.discard(&snapshot);
    result.and(discarded)
}

/// Remembers which files the new layer has as its own.
fn give(stage: &StageRun<'_>, files: &[u64]) -> Result<()> {
    let (Some(memory), false) = (&stage.request.memory, files.is_empty()) else {
        return Ok(());
    };
    if let Some(layer) = stage.layers()?.last() {
        for inode in files {
            memory.give(*inode, *layer);
        }
    }
    Ok(())
}

fn expand_option(stage: &StageRun<'_>, word: Option<&str>) -> Result<Option<String>> {
    word.map(|word| stage.expand(word)).transpose()
}

fn ready(stage: &StageRun<'_>, keyword: &str, transfer: &Transfer) -> Result<Ready> {
    let sources: Vec<String> = transfer
        .sources
        .iter()
        .map(|source| stage.expand(source))
        .collect::<Result<_>>()?;
    let (urls, local): (Vec<String>, Vec<String>) = sources
        .into_iter()
        .partition(|source| keyword == "ADD" && remote::is_remote(source));
    if transfer.checksum.is_some() && urls.is_empty() {
        return Err(Error::invalid(
            "checksum can't be specified for non-HTTP(S) sources",
        ));
    }
    let destination = stage.expand(&transfer.destination)?;
    let written_as_directory = destination.ends_with('/') || destination.ends_with("/.");
    let several = urls.len() + local.len() + transfer.documents.len() > 1;
    let mut loose = documents(stage, transfer)?;
    let mut collected = match local.is_empty() {
        true => Collected::default(),
        false => files(stage, transfer, local)?,
    };
    for url in &urls {
        if remote::is_repository(url)? {
            collected.add(remote::repository(stage, url, transfer)?);
        } else {
            loose.push(remote::fetch(stage, url, transfer, written_as_directory)?);
        }
    }
    let several = several || collected.sources > 1;
    if several && !written_as_directory {
        return Err(Error::invalid(format!(
            "{SEVERAL} {keyword} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    Ok(Ready {
        digest: summary(
            &collected,
            &mut loose,
            keeps_owners(transfer),
            memory(stage, transfer.from.as_deref()),
        )?,
        directory: written_as_directory || collected.directory || transfer.parents,
        destination: PathBuf::from(below(&stage.config.working_dir, &destination)),
        written: destination,
        collected,
        loose,
    })
}

/// `file:...`, `dir:...` or `multi:...`, as docker's history names what was copied.
fn summary(
    collected: &Collected,
    loose: &mut [Loose],
    owners: bool,
    memory: Option<&dyn FileMemory>,
) -> Result<String> {
    let io = |error: std::io::Error| Error::internal(error.to_string());
    let count = collected.sources + loose.len();
    let files = digest::digest(collected, owners, memory).map_err(io)?;
    let mut hash = Sha256::new();
    hash.update(files.as_bytes());
    for one in loose {
        hash.update((one.name.len() as u64).to_le_bytes());
        hash.update(&one.name);
        match &mut one.content {
            Content::Text(text) => hash.update(text),
            Content::Fetched { file, .. } => hash.update(remote::digest_of(file)?.as_bytes()),
        }
    }
    let digest = Digest::from_bytes(hash.finalize().into()).hex();
    let kind = match (count, collected.directory) {
        (1, true) => "dir",
        (1, false) => "file",
        _ => "multi",
    };
    Ok(format!("{kind}:{digest}"))
}

fn documents(stage: &StageRun<'_>, transfer: &Transfer) -> Result<Vec<Loose>> {
    let document = |document: &crate::dockerfile::heredoc::Heredoc| {
        let text = document.text();
        let text = if document.expand {
            let expansion = stage.scope.expand_document(&text);
            expansion
                .map_err(|error| Error::invalid(error.to_string()))?
                .text
        } else {
            text
        };
        Ok(Loose {
            name: document.name.clone(),
            content: Content::Text(text),
        })
    };
    transfer.documents.iter().map(document).collect()
}

fn files(stage: &StageRun<'_>, transfer: &Transfer, sources: Vec<String>) -> Result<Collected> {
    let root = source_root(stage, transfer.from.as_deref())?;
    let wanted = Wanted {
        sources,
        parents: transfer.parents,
        exclude: transfer.exclude.clone(),
        if_exists: transfer.if_exists,
    };
    collect(root, &wanted).map_err(|error| {
        let text = error.to_string();
        match error {
            CollectError::Missing(path) if transfer.from.is_none() && outside(&path) => {
                Error::invalid(format!(
                    "forbidden path outside the build context: {path} ()"
                ))
            }
            CollectError::Missing(_) if transfer.from.is_none() => Error::invalid(format!(
                "file not found in build context or excluded by .dockerignore: {text}"
            )),
            CollectError::Io { .. } => Error::internal(text),
            _ => Error::invalid(text),
        }
    })
}

/// Whether a source is meant to be above the context; nothing is found there.
fn outside(source: &str) -> bool {
    let mut depth = 0_i32;
    source.split('/').any(|part| {
        depth += match part {
            ".." => -1,
            "" | "." => 0,
            _ => 1,
        };
        depth < 0
    })
}

/// Makes a context the first layer of a stage.
pub fn base(stage: &mut StageRun<'_>, name: &str) -> Result<()> {
    let io = |error: std::io::Error| Error::internal(format!("{name}: {error}"));
    let Some(NamedContext::Directory { path, memory }) = stage.context_named(name) else {
        return Err(Error::internal(format!("{name} is no context")));
    };
    let wanted = Wanted {
        sources: vec![".".to_owned()],
        ..Wanted::default()
    };
    let collected = collect(open(path)?, &wanted);
    let collected = collected.map_err(|error| Error::internal(error.to_string()))?;
    let digest = digest::digest(&collected, false, memory.as_deref()).map_err(io)?;
    let created_by = format!("FROM context dir:{}", digest.hex());
    let key = stage.key(&created_by).finish();
    let repeat = Repeat {
        line: &created_by,
        files: true,
        whole: false,
    };
    if stage.cached(&key, repeat)? {
        return Ok(());
    }
    let (snapshot, root) = stage.ports.images.snapshot(None)?;
    let placer = Placer {
        root,
        owner: Some((0, 0)),
        mode: None,
    };
    let placed = placer.copy(&collected, Path::new("/"), true, None);
    drop(placer);
    let result = placed
        .map_err(io)
        .and_then(|()| stage.commit(Some(snapshot), created_by, &key));
    let discarded = stage.ports.images.discard(&snapshot);
    result.and(discarded)
}

/// The context, one that has a name, or the tree of a stage or an image.
fn source_root(stage: &StageRun<'_>, from: Option<&str>) -> Result<OwnedFd> {
    let Some(from) = from else {
        let context = stage.request.context.try_clone();
        return context.map_err(|error| Error::internal(error.to_string()));
    };
    match stage.context_named(from) {
        Some(NamedContext::Directory { path, .. }) => open(path),
        _ => stage.ports.images.root(&source_image(stage, from)?),
    }
}

/// What is known of the files that an instruction copies from.
fn memory<'a>(stage: &'a StageRun<'_>, from: Option<&str>) -> Option<&'a dyn FileMemory> {
    match from {
        None => stage.request.memory.as_deref(),
        Some(from) => match stage.context_named(from) {
            Some(NamedContext::Directory { memory, .. }) => memory.as_deref(),
            _ => None,
        },
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::internal(format!("{}: {errno}", path.display())))
}

/// The image that a stage has become, or that a name stands for.
pub fn source_image(stage: &StageRun<'_>, from: &str) -> Result<Digest> {
    let file = &stage.plan.file;
    let image = match (
        stage.context_named(from),
        file.stage_from(from, stage.index).map_err(Error::invalid)?,
    ) {
        (Some(NamedContext::Directory { .. }), _) => {
            return Err(Error::internal(format!("the context {from} is no image")));
        }
        (Some(NamedContext::Image(image)), _) => Some(stage.base_image(image)?),
        (None, Some(index)) => stage.progress.wait(index)?.image,
        (None, None) => Some(stage.base_image(from)?),
    };
    image.ok_or_else(|| Error::invalid(format!("stage {from} has no files to copy")))
}

/// What comes from another stage stays with its owner; who owns files of a context means nothing to an image.
fn keeps_owners(transfer: &Transfer) -> bool {
    transfer.from.is_some() && transfer.chown.is_none()
}

/// Files that are still to be adopted by the layer, and what they become.
struct Placed<'a> {
    adopted: Adopted<'a>,
    owner: Option<(u32, u32)>,
    mode: Option<mode::ModeChange>,
}

impl Placed<'_> {
    /// `upper` opens the layer's directory; the tree is closed. Answers which files the layer has as its own.
    fn finish(self, upper: impl FnOnce() -> Result<OwnedFd>) -> Result<Vec<u64>> {
        if self.adopted.is_empty() {
            return Ok(Vec::new());
        }
        let placer = Placer {
            root: upper()?,
            owner: self.owner,
            mode: self.mode,
        };
        let finished = self.adopted.finish(&placer);
        finished.map_err(|error| Error::invalid(error.to_string()))
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, all of it decided before"
)]
fn place<'a>(
    stage: &'a StageRun<'_>,
    keyword: &str,
    transfer: &Transfer,
    mut ready: Ready,
    root: OwnedFd,
    chown: Option<&str>,
    chmod: Option<mode::ModeChange>,
) -> Result<Placed<'a>> {
    let io = |error: std::io::Error| Error::invalid(error.to_string());
    let owner = match chown {
        Some(text) => Some(owner::parse(&root, text)?),
        None => Some((0, 0)).filter(|_| !keeps_owners(transfer)),
    };
    let placer = Placer {
        root,
        owner,
        mode: chmod,
    };
    let directory = ready.directory || placer.is_directory(&ready.destination);
    if keyword == "ADD" && transfer.unpack != Some(false) {
        unpack(stage, &placer, chown.is_some(), &mut ready)?;
    }
    // With one source every place is written once.
    let alone = transfer.from.is_none() && ready.collected.sources == 1 && ready.loose.is_empty();
    // Whose times are set in the layer must not be a file of others.
    let alone = alone && !stage.request.rewrite_times;
    let mut adopted = Adopted::new(stage.request.memory.as_deref(), stage.layers()?);
    let adopting = alone.then_some(&mut adopted);
    placer
        .copy(&ready.collected, &ready.destination, directory, adopting)
        .map_err(io)?;
    for one in ready.loose {
        let place = if directory {
            ready.destination.join(&one.name)
        } else {
            ready.destination.clone()
        };
        match one.content {
            Content::Text(text) => placer.file(text.as_bytes(), &place, 0o644).map_err(io)?,
            Content::Fetched { file, .. } if transfer.unpack == Some(true) => {
                extract(stage, &placer, chown.is_some(), file, &ready.destination)?;
            }
            Content::Fetched { mut file, time } => {
                placer.opened(&mut file, &place, 0o600, time).map_err(io)?;
            }
        }
    }
    Ok(Placed {
        adopted,
        owner: placer.owner,
        mode: placer.mode,
    })
}

/// Unpacks the archives among the sources of an ADD; they are no files to copy any more.
fn unpack(stage: &StageRun<'_>, placer: &Placer, owned: bool, ready: &mut Ready) -> Result<()> {
    let io = |error: std::io::Error| Error::internal(error.to_string());
    let mut rest = Vec::new();
    for item in std::mem::take(&mut ready.collected.items) {
        // Only what the user named is unpacked, not what a directory holds.
        let named = item.target.as_os_str().is_empty();
        if !named || item.kind() != rustix::fs::FileType::RegularFile {
            rest.push(item);
            continue;
        }
        let file = File::from(item.open().map_err(io)?);
        let archive = stage.ports.images.is_archive(&file)?;
        if !archive {
            rest.push(item);
            continue;
        }
        extract(stage, placer, owned, file, &ready.destination)?;
    }
    ready.collected.items = rest;
    Ok(())
}

/// Unpacks an archive into a directory of the tree. What it has belongs to whom it says, or, where it is `owned`, to the owner
/// of everything that is placed.
fn extract(
    stage: &StageRun<'_>,
    placer: &Placer,
    owned: bool,
    mut file: File,
    destination: &Path,
) -> Result<()> {
    let io = |error: std::io::Error| Error::internal(error.to_string());
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let images = stage.ports.images;
    if !owned {
        return images.unpack(file, placer.directory(destination).map_err(io)?);
    }
    let scratch = remote::new_directory(&stage.request.scratch, stage.index).map_err(io)?;
    images.unpack(file, open(&scratch)?)?;
    let wanted = Wanted {
        sources: vec![".".to_owned()],
        ..Wanted::default()
    };
    let collected = collect(open(&scratch)?, &wanted);
    let collected = collected.map_err(|error| Error::internal(error.to_string()))?;
    let placer = Placer {
        root: placer.root.try_clone().map_err(io)?,
        owner: placer.owner,
        // Modes are those of the archive.
        mode: None,
    };
    let placed = placer.copy(&collected, destination, true, None);
    placed.map_err(|error| Error::invalid(error.to_string()))
}
