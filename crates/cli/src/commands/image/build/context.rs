//! The context that is sent: a directory as a tar archive, without what the ignore file names, or standard input.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cais_build::dockerfile::Source;
use cais_build::dockerfile::context_source::ContextSource;
use cais_build::dockerfile::git_ref::GitRef;
use cais_build::dockerfile::ignore::{Ignore, clean, names};
use cais_build::git::Git;
use cais_client::body::Body;
use futures_util::stream;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::archive;
use crate::error::{CliError, Result};

/// Bytes of a piece of the archive.
const PIECE: usize = 256 << 10;
/// Pieces that may wait for the connection.
const DEPTH: usize = 4;

/// What is sent.
pub struct Context {
    pub body: Body,
    /// The Dockerfile's name within the context.
    pub dockerfile: String,
    /// A context that the daemon fetches itself.
    pub remote: Option<String>,
}

/// Finds the context and the Dockerfile.
///
/// # Errors
/// Paths that are missing, or a bad ignore file.
pub fn source(path: &str, file: &str) -> Result<Context> {
    match ContextSource::parse(path).map_err(CliError::new)? {
        ContextSource::Stdin if file == "-" => Err(CliError::new(
            "invalid argument: can't use stdin for both build context and dockerfile",
        )),
        ContextSource::Stdin => Ok(Context {
            body: archive::source("-")?,
            dockerfile: file.to_owned(),
            remote: None,
        }),
        ContextSource::Http(url) => Ok(Context {
            body: Body::Empty,
            dockerfile: file.to_owned(),
            remote: Some(url),
        }),
        ContextSource::Git(repository) => checkout(&repository, file),
        ContextSource::Directory(path) => directory(Path::new(&path), file, None),
    }
}

/// A Dockerfile read for its checks, and what of the context it can't see.
pub struct Checked {
    pub source: Source,
    pub ignore: Ignore,
}

/// Reads the Dockerfile of a directory; none where it comes from standard input or the daemon fetches it.
///
/// # Errors
/// Paths that are missing, or a bad ignore file.
pub fn checked(path: &str, file: &str) -> Result<Option<Checked>> {
    let ContextSource::Directory(path) = ContextSource::parse(path).map_err(CliError::new)? else {
        return Ok(None);
    };
    let root = Path::new(&path).canonicalize();
    let Some(root) = root.ok().filter(|_| file != "-") else {
        return Ok(None);
    };
    let (name, extra) = dockerfile(&root, file)?;
    let bytes = match extra {
        Some(extra) => extra.text,
        None => fs::read(root.join(&name))?,
    };
    let shown = Path::new(if file.is_empty() { "Dockerfile" } else { file }).file_name();
    Ok(Some(Checked {
        ignore: ignore(&root, &name)?,
        source: Source {
            name: shown.unwrap_or_default().to_string_lossy().into_owned(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        },
    }))
}

/// A Dockerfile that is no part of the context and is sent beside it.
struct Extra {
    name: String,
    text: Vec<u8>,
}

/// A repository, fetched here: the user's keys and helpers open it. The Dockerfile is one of its own.
fn checkout(repository: &GitRef, file: &str) -> Result<Context> {
    let scratch = tempfile::Builder::new().prefix("cais-context-").tempdir()?;
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let git = Git {
        search_path: &search_path,
        as_user: true,
    };
    let failed = |error| CliError::new(format!("unable to prepare context: {error}"));
    let tree = git.checkout(repository, scratch.path()).map_err(failed)?;
    stays_inside(&tree, file)?;
    let file = match file {
        "" | "-" => file.to_owned(),
        file => {
            let path = tree.join(file.trim_start_matches('/'));
            path.to_string_lossy().into_owned()
        }
    };
    directory(&tree, &file, Some(scratch))
}

/// A link of a repository must not lead to files of this host.
fn stays_inside(tree: &Path, file: &str) -> Result<()> {
    let named = if file.is_empty() { "Dockerfile" } else { file };
    let ignore_files = names(named).into_iter();
    for name in ignore_files.chain([named.to_owned()]) {
        let real = tree.join(name.trim_start_matches('/')).canonicalize();
        if real.is_ok_and(|real| !real.starts_with(tree)) {
            return Err(CliError::new(format!(
                "unable to prepare context: {name} leads out of the repository"
            )));
        }
    }
    Ok(())
}

/// `scratch` goes when all is sent.
fn directory(path: &Path, file: &str, scratch: Option<TempDir>) -> Result<Context> {
    let root = path.canonicalize().map_err(|_| {
        CliError::new(format!(
            "unable to prepare context: path {:?} not found",
            path.display()
        ))
    })?;
    if !root.is_dir() {
        let text = format!(
            "unable to prepare context: context must be a directory: {}",
            path.display()
        );
        return Err(CliError::new(text));
    }
    let (dockerfile, extra) = dockerfile(&root, file)?;
    let ignore = ignore(&root, &dockerfile)?;
    let (sender, receiver) = mpsc::channel(DEPTH);
    let name = dockerfile.clone();
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink {
            sender: sender.clone(),
            buffer: Vec::with_capacity(PIECE),
        };
        let packed = pack(&root, &ignore, &name, extra, &mut sink).and_then(|()| sink.flush());
        if let Err(error) = packed {
            // The daemon must not take half a context for a whole one.
            let _ = sender.blocking_send(Err(error));
        }
        drop(scratch);
    });
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    Ok(Context {
        body: Body::stream(pieces),
        dockerfile,
        remote: None,
    })
}

/// The name of the Dockerfile in the context, and its text when it is not in there.
fn dockerfile(root: &Path, file: &str) -> Result<(String, Option<Extra>)> {
    let missing = |path: &Path, error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        let text = format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {reason}",
            path.display()
        );
        CliError::new(text)
    };
    if file == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok(beside(text));
    }
    let path = if file.is_empty() {
        root.join("Dockerfile")
    } else {
        PathBuf::from(file)
    };
    let real = path.canonicalize().map_err(|error| missing(&path, error))?;
    match real.strip_prefix(root) {
        Ok(within) => Ok((within.to_string_lossy().into_owned(), None)),
        Err(_) => Ok(beside(
            fs::read(&real).map_err(|error| missing(&path, error))?,
        )),
    }
}

fn beside(text: Vec<u8>) -> (String, Option<Extra>) {
    let name = format!(".dockerfile.{}", std::process::id());
    let extra = Extra {
        name: name.clone(),
        text,
    };
    (name, Some(extra))
}

fn ignore(root: &Path, dockerfile: &str) -> Result<Ignore> {
    for name in names(dockerfile) {
        match fs::read_to_string(root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let text = text?;
                return Ignore::parse(&text).map_err(|error| CliError::new(error.to_string()));
            }
        }
    }
    Ok(Ignore::default())
}

/// Writes the archive. The Dockerfile and the ignore file always go along: the daemon needs them.
fn pack(
    root: &Path,
    ignore: &Ignore,
    dockerfile: &str,
    extra: Option<Extra>,
    out: &mut Sink,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(&mut *out);
    archive.follow_symlinks(false);
    let always = [dockerfile, ".dockerignore"];
    directory_below(&mut archive, root, Path::new(""), ignore, &always)?;
    if let Some(extra) = extra {
        let mut header = tar::Header::new_gnu();
        header.set_size(extra.text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, &extra.name, &*extra.text)?;
    }
    archive.finish()
}

fn directory_below<W: Write>(
    archive: &mut tar::Builder<W>,
    root: &Path,
    below: &Path,
    ignore: &Ignore,
    always: &[&str],
) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(below))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        let text = clean(&path.to_string_lossy());
        let is_directory = entry.file_type()?.is_dir();
        let needed = always.contains(&text.as_str());
        let ignored = !needed && ignore.ignores(&text);
        if !ignored {
            append(archive, &entry.path(), &path)?;
        }
        let leads = always
            .iter()
            .any(|name| name.starts_with(&format!("{text}/")));
        if is_directory && (!ignored || leads || ignore.may_except_below(&text)) {
            directory_below(archive, root, &path, ignore, always)?;
        }
    }
    Ok(())
}

/// One entry, owned by root: who owns files here means nothing to the image.
fn append<W: Write>(archive: &mut tar::Builder<W>, from: &Path, path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    if metadata.is_symlink() {
        header.set_size(0);
        return archive.append_link(&mut header, path, fs::read_link(from)?);
    }
    if metadata.is_file() {
        return archive.append_data(&mut header, path, File::open(from)?);
    }
    header.set_size(0);
    if metadata.is_dir() {
        return archive.append_data(&mut header, path, io::empty());
    }
    // Sockets and pipes have no place in a context.
    Ok(())
}

struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.buffer);
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
