//! Sources of ADD that are no files of the context: behind URLs and in repositories.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use cais_types::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};

use super::transfer::{Content, Loose};
use crate::dockerfile::git_ref::GitRef;
use crate::dockerfile::instruction::Transfer;
use crate::stage::StageRun;
use crate::transfer::collect::{Collected, Wanted, collect};

/// Whether a source is behind a URL or in a repository.
pub fn is_remote(source: &str) -> bool {
    source.starts_with("http://")
        || source.starts_with("https://")
        || matches!(GitRef::parse(source), Ok(Some(_)))
}

/// Whether it is a repository.
pub fn is_repository(source: &str) -> Result<bool> {
    let repository = GitRef::parse(source).map_err(Error::invalid)?;
    Ok(repository.is_some())
}

/// The files of a repository, fetched beside the context.
pub fn repository(stage: &StageRun<'_>, url: &str, transfer: &Transfer) -> Result<Collected> {
    let io = |error: std::io::Error| Error::internal(error.to_string());
    let parsed = GitRef::parse(url).map_err(Error::invalid)?;
    let mut wanted = parsed.ok_or_else(|| Error::internal("no repository"))?;
    wanted.keep_git_dir = transfer.keep_git_dir.or(wanted.keep_git_dir);
    if let Some(checksum) = &transfer.checksum {
        let checksum = stage.expand(checksum)?;
        if wanted
            .checksum
            .replace(checksum.clone())
            .is_some_and(|other| other != checksum)
        {
            return Err(Error::invalid("checksum conflicts"));
        }
    }
    let into = new_directory(&stage.request.scratch, stage.index).map_err(io)?;
    let tree = stage.ports.fetcher.checkout(&wanted, &into)?;
    stage.progress.sources.material(url.to_owned(), None);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let root = rustix::fs::open(
        &tree,
        flags | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| io(errno.into()))?;
    let wanted = Wanted {
        sources: vec![".".to_owned()],
        exclude: transfer.exclude.clone(),
        ..Wanted::default()
    };
    collect(root, &wanted).map_err(|error| Error::internal(error.to_string()))
}

/// A new directory that goes with the build.
pub fn new_directory(above: &Path, stage: usize) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let mut number = 0;
    loop {
        let path = above.join(format!("repository-{stage}-{number}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            result => return result.map(|()| path),
        }
    }
}

/// The file behind a URL, which may have to have a name.
pub fn fetch(
    stage: &StageRun<'_>,
    url: &str,
    transfer: &Transfer,
    directory: bool,
) -> Result<Loose> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let after_host = path.splitn(4, '/').nth(3).unwrap_or("");
    let mut file = scratch_file(&stage.request.scratch)?;
    let fetched = stage.ports.fetcher.fetch(url, &file)?;
    let last = after_host.rsplit('/').next().unwrap_or("");
    let name = match last {
        "" | "." | ".." => fetched.name.unwrap_or_default(),
        name => name.to_owned(),
    };
    if name.is_empty() && directory {
        return Err(Error::invalid(format!(
            "cannot determine filename from url: {url}"
        )));
    }
    let have = digest_of(&mut file)?;
    let sources = &stage.progress.sources;
    sources.material(url.to_owned(), Some(have.hex()));
    if let Some(want) = &transfer.checksum {
        let want = stage.expand(want)?;
        if want != have.to_string() {
            return Err(Error::invalid(format!(
                "digest mismatch sha256:{}: {want}",
                have.hex()
            )));
        }
    }
    Ok(Loose {
        name,
        content: Content::Fetched {
            file,
            time: fetched.time.unwrap_or(0),
        },
    })
}

/// A file without a name, which so is gone with the build.
fn scratch_file(directory: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    Ok(file
        .map_err(|errno| Error::internal(format!("{}: {errno}", directory.display())))?
        .into())
}

/// The digest of a file from its beginning, where it is left.
pub fn digest_of(file: &mut File) -> Result<Digest> {
    let io = |error: std::io::Error| Error::internal(error.to_string());
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    loop {
        let count = file.read(&mut buffer).map_err(io)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(Digest::from_bytes(hash.finalize().into()))
}
