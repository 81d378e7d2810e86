//! Where an entry goes: its cleaned path, and the open directory that will hold it, resolved below the root whatever
//! symbolic links the archive has made on the way.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::TarError;

/// Longest path of an entry, in bytes.
pub const PATH_MAX: usize = 4096;
/// Open directories kept.
const CACHE_MAX: usize = 128;

/// A path without `.`, `..` and empty parts; the empty path is the root itself.
pub fn clean(path: &[u8]) -> Result<Vec<u8>, TarError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    if path.len() > PATH_MAX {
        return Err(TarError::Limit(format!("path of {} bytes", path.len())));
    }
    if path.contains(&0) {
        return Err(TarError::Header("NUL in a path"));
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if clean.is_empty() => return Err(TarError::Outside(shown())),
            b".." => {
                let parent = clean.iter().rposition(|b| *b == b'/').unwrap_or(0);
                clean.truncate(parent);
            }
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Ok(clean)
}

/// Parent and last part of a clean path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Opens directories below a root and remembers them.
pub struct Directories {
    root: OwnedFd,
    open: HashMap<Vec<u8>, OwnedFd>,
    resolve: ResolveFlags,
}

impl Directories {
    /// Directories below `root`; `one_mount` refuses to cross mounts.
    pub fn new(root: OwnedFd, one_mount: bool) -> Self {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if one_mount {
            resolve |= ResolveFlags::NO_XDEV;
        }
        Self {
            root,
            open: HashMap::new(),
            resolve,
        }
    }

    /// Forgets all directories: something on the way to them has changed.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Remembers a directory that was just opened.
    pub fn remember(&mut self, path: &[u8], directory: OwnedFd) {
        if self.open.len() >= CACHE_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), directory);
    }

    /// The directory at a clean path, made with its parents (mode 0755, owner root) where it is missing.
    pub fn get(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, TarError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if !self.open.contains_key(path) {
            let directory = match self.lookup(path) {
                Err(Errno::NOENT) => self.make(path)?,
                result => result.map_err(|errno| failed("open", path, errno))?,
            };
            self.remember(path, directory);
        }
        Ok(self.open[path].as_fd())
    }

    /// Opens what a clean path leads to, links in the last part not followed.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        self.openat2(path, flags)
    }

    fn lookup(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.openat2(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn openat2(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        loop {
            // EAGAIN: something was renamed meanwhile, openat2(2).
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    fn make(&mut self, path: &[u8]) -> Result<OwnedFd, TarError> {
        let (parent, name) = split(path);
        let mode = Mode::from_raw_mode(0o755);
        {
            let parent = self.get(parent)?;
            rustix::fs::mkdirat(parent, name, mode)
                .and_then(|()| {
                    let (root_user, root_group) = (Some(Uid::ROOT), Some(rustix::fs::Gid::ROOT));
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(parent, name, root_user, root_group, flags)?;
                    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                })
                .map_err(|errno| failed("mkdir", path, errno))?;
        }
        self.lookup(path)
            .map_err(|errno| failed("open", path, errno))
    }
}

/// An entry's failed system call.
pub fn failed(operation: &'static str, path: &[u8], source: impl Into<io::Error>) -> TarError {
    TarError::Entry {
        operation,
        path: String::from_utf8_lossy(path).into_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_cannot_climb_out() {
        for (path, want) in [
            (&b"./a//b/"[..], &b"a/b"[..]),
            (b"/etc/passwd", b"etc/passwd"),
            (b"a/b/../c", b"a/c"),
            (b"./", b""),
            (b"a/..", b""),
        ] {
            assert_eq!(clean(path).unwrap(), want);
        }
        for bad in [&b"../a"[..], b"a/../../b", b"/..", b"a\0b"] {
            assert!(clean(bad).is_err(), "{bad:?}");
        }
        assert!(clean(&vec![b'a'; 5000]).is_err());
    }
}
