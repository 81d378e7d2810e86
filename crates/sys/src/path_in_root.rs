//! Paths that an image or a user names, resolved below a root that they cannot leave (openat2(2), RESOLVE_IN_ROOT).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// Tries of a resolution that a rename made the kernel give up.
const TRIES: u32 = 128;

/// Opens a path below the root; symbolic links resolve inside it, magic links are refused.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            result => return Ok(result?),
        }
    }
}

/// Opens a directory below the root, made with its parents (mode 0755) when it is missing.
pub fn directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, flags, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut reached = PathBuf::from("/");
    let mut at = root.try_clone_to_owned()?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            if component == Component::ParentDir {
                reached.pop();
                at = open(root, &reached, flags, Mode::empty())?;
            }
            continue;
        };
        reached.push(name);
        at = step(root, at.as_fd(), name, &reached)?;
    }
    Ok(at)
}

fn step(
    root: BorrowedFd<'_>,
    at: BorrowedFd<'_>,
    name: &OsStr,
    reached: &Path,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, reached, flags, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    open(root, reached, flags, Mode::empty())
}

/// Opens a regular file's place below the root as a path descriptor, made empty with its parents when it is missing.
pub fn file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name());
    let Some(name) = name else {
        return Err(Errno::ISDIR.into());
    };
    let parent = directory(root, parent)?;
    let create =
        OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let name = Path::new(OsStr::from_bytes(name.as_bytes()));
    openat(&parent, name, create, Mode::from_raw_mode(0o755))?;
    open(root, path, OFlags::PATH, Mode::empty())
}
