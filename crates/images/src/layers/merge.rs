//! Several layers as one: each is laid over what the ones below it made of a directory, in the form in which overlayfs would
//! have written all of it. Files are linked, not copied: layers never change.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

use super::changes::{is_opaque, is_whiteout};
use crate::tarball::export::sorted_names;
use crate::tarball::extract::OPAQUE_XATTR;
use crate::tarball::metadata::{apply, read_entry, times};

/// Deepest directory merged; descriptors are held for each level.
const DEPTH_MAX: usize = 400;

/// Lays layers over a directory. `covers` tells whether there is something of a path below all of them, which a file that is
/// missing or a directory that is new has to hide.
pub struct Merger<'a> {
    pub covers: &'a dyn Fn(&[u8]) -> bool,
}

impl Merger<'_> {
    /// Lays one layer over what is there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&self, layer: BorrowedFd<'_>, into: BorrowedFd<'_>) -> io::Result<()> {
        self.directory(layer, into, &mut Vec::new(), 0)
    }

    fn directory(
        &self,
        layer: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in sorted_names(layer)? {
            let length = path.len();
            path.extend_from_slice(name.to_bytes());
            let stat = rustix::fs::statat(layer, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.below(
                    Place {
                        layer,
                        into,
                        name: &name,
                    },
                    path,
                    &stat,
                    depth,
                )?;
            } else {
                cais_sys::tree::remove(into, &name)?;
                if !is_whiteout(&stat) || (self.covers)(path) {
                    rustix::fs::linkat(layer, &name, into, &name, AtFlags::empty())?;
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn below(
        &self,
        place: Place<'_>,
        path: &mut Vec<u8>,
        stat: &Stat,
        depth: usize,
    ) -> io::Result<()> {
        let Place { layer, into, name } = place;
        let from = cais_sys::tree::open_directory(layer, name)?;
        let there = match rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let opaque = is_opaque(from.as_fd())?;
        let merges = there == Some(FileType::Directory) && !opaque;
        if !merges {
            cais_sys::tree::remove(into, name)?;
            rustix::fs::mkdirat(into, name, Mode::from_raw_mode(0o700))?;
        }
        let to = cais_sys::tree::open_directory(into, name)?;
        if !merges && (opaque || there.is_some()) && (self.covers)(path) {
            rustix::fs::fsetxattr(&to, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        let entry = read_entry(layer, name, path, stat)?;
        path.push(b'/');
        self.directory(from.as_fd(), to.as_fd(), path, depth + 1)?;
        if let Some(entry) = entry {
            apply(&to, &entry).map_err(io::Error::other)?;
            rustix::fs::futimens(&to, &times(entry.mtime))?;
        }
        Ok(())
    }
}

/// A directory of a layer, and where it is laid over.
struct Place<'a> {
    layer: BorrowedFd<'a>,
    into: BorrowedFd<'a>,
    name: &'a CStr,
}
