//! What a container's upper directory changed against the layers below it, read from the directories themselves.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::tarball::export::sorted_names;
use crate::tarball::extract::OPAQUE_XATTR;

/// Deepest directory looked into; descriptors are held for each level.
const DEPTH_MAX: usize = 900;

/// What happened to a path; the numbers are the Engine API's `Kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute inside the container; bytes that are no UTF-8 are replaced.
    pub path: String,
    pub kind: ChangeKind,
}

/// The changes in path order. `lower` is ordered from the topmost layer down.
pub fn changes(upper: OwnedFd, lower: Vec<OwnedFd>) -> io::Result<Vec<Change>> {
    let mut found = Vec::new();
    directory(&upper, &lower, &mut Vec::new(), 0, &mut found)?;
    Ok(found)
}

fn directory(
    upper: &OwnedFd,
    lower: &[OwnedFd],
    path: &mut Vec<u8>,
    depth: usize,
    found: &mut Vec<Change>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let mut names = sorted_names(upper.as_fd())?;
    let opaque = is_opaque(upper.as_fd())?;
    if opaque {
        for directory in lower {
            names.extend(sorted_names(directory.as_fd())?);
        }
        names.sort_unstable();
        names.dedup();
    }
    for name in names {
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        entry(upper, lower, &name, path, depth, found)?;
        path.truncate(length);
    }
    Ok(())
}

fn entry(
    upper: &OwnedFd,
    lower: &[OwnedFd],
    name: &CString,
    path: &mut Vec<u8>,
    depth: usize,
    found: &mut Vec<Change>,
) -> io::Result<()> {
    let below = lookup(lower, name)?;
    let own = stat(upper.as_fd(), name)?.filter(|stat| !is_whiteout(stat));
    let push = |found: &mut Vec<Change>, path: &[u8], kind| {
        found.push(Change {
            path: String::from_utf8_lossy(path).into_owned(),
            kind,
        });
    };
    let Some(own) = own else {
        if below.is_some() {
            push(found, path, ChangeKind::Deleted);
        }
        return Ok(());
    };
    let is_directory = FileType::from_raw_mode(own.st_mode) == FileType::Directory;
    let place = found.len();
    if is_directory {
        let child = cais_sys::tree::open_directory(upper.as_fd(), name)?;
        let lower = lower_directories(lower, name)?;
        directory(&child, &lower, path, depth + 1, found)?;
    }
    let kind = match &below {
        None => ChangeKind::Added,
        // A directory is only here because something in it is, unless its own metadata changed.
        Some(below) if is_directory && found.len() == place && same_directory(&own, below) => {
            return Ok(());
        }
        Some(_) => ChangeKind::Modified,
    };
    push(found, path, kind);
    found[place..].rotate_right(1);
    Ok(())
}

/// The entry as the layers together show it.
fn lookup(lower: &[OwnedFd], name: &CStr) -> io::Result<Option<Stat>> {
    for directory in lower {
        if let Some(stat) = stat(directory.as_fd(), name)? {
            return Ok(Some(stat).filter(|stat| !is_whiteout(stat)));
        }
    }
    Ok(None)
}

/// The directories that are merged under this name: down to the first that is no directory, or hides the rest.
fn lower_directories(lower: &[OwnedFd], name: &CStr) -> io::Result<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for directory in lower {
        let Some(stat) = stat(directory.as_fd(), name)? else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            break;
        }
        let child = cais_sys::tree::open_directory(directory.as_fd(), name)?;
        let last = is_opaque(child.as_fd())?;
        open.push(child);
        if last {
            break;
        }
    }
    Ok(open)
}

fn stat(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a file hides the name in the layers below.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides everything of its name in the layers below.
pub fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value) {
        Ok(1) => Ok(value == *b"y"),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn same_directory(own: &Stat, below: &Stat) -> bool {
    own.st_mode == below.st_mode
        && own.st_uid == below.st_uid
        && own.st_gid == below.st_gid
        && (own.st_mtime, own.st_mtime_nsec) == (below.st_mtime, below.st_mtime_nsec)
}
