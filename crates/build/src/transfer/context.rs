//! Paths of the context that a mount shows to a command.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use cais_sys::path_in_root;
use cais_types::{Digest, Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;

use super::collect::{Wanted, collect};
use super::digest;
use crate::ports::FileMemory;

/// The place on the host of a path of the context; links are followed within it only (CVE-2024-1753). Nothing changes the
/// context while the build runs.
pub fn resolve(directory: &Path, path: &str) -> Result<PathBuf> {
    let missing = |error: std::io::Error| Error::invalid(format!("failed to stat {path}: {error}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty());
    let root = root.map_err(|errno| missing(errno.into()))?;
    let open = path_in_root::open(root.as_fd(), Path::new(path), OFlags::PATH, Mode::empty());
    let open = open.map_err(missing)?;
    std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).map_err(missing)
}

/// The digest of a file or directory of the host.
pub fn digest_of_path(path: &Path, memory: Option<&dyn FileMemory>) -> Result<String> {
    let failed = |error: std::io::Error| Error::internal(format!("{}: {error}", path.display()));
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => (path, ".".to_owned()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(parent, flags, Mode::empty());
    let root = root.map_err(|errno| failed(errno.into()))?;
    let wanted = Wanted {
        sources: vec![name],
        ..Wanted::default()
    };
    let collected = collect(root, &wanted).map_err(|error| Error::internal(error.to_string()))?;
    let digest: Digest = digest::digest(&collected, true, memory).map_err(failed)?;
    Ok(digest.to_string())
}
