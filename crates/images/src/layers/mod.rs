//! Layers on disk: `layers/<chain-id>/{diff/, record.zst, shadow/, init/}`, and the read/write layers of containers,
//! `containers/<id>/{upper, work}`. What is only half there carries a temporary name and is swept at start.

pub mod changes;
pub mod init;
pub mod merge;
pub mod mount;
pub mod unpack;
pub mod upper;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cais_types::Digest;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::ImageError;
use crate::side_hash::SideHash;
use crate::tarball::split;

/// Starts the names of what is not whole yet, or no longer.
pub const TEMPORARY: &str = "tmp-";
/// The directory of a layer's files.
pub const DIFF: &str = "diff";
/// The record that makes the layer's tar stream again.
const RECORD: &str = "record.zst";
/// Files that later entries of the same layer replaced.
const SHADOW: &str = "shadow";

/// The identity of a layer on top of others (OCI config.md, "Layer ChainID").
pub fn chain_id(parent: Option<&Digest>, diff: &Digest) -> Digest {
    match parent {
        None => *diff,
        Some(parent) => crate::content::digest(format!("{parent} {diff}").as_bytes()),
    }
}

/// The chain ids of layers on top of each other, lowest first.
pub fn chain_ids(diffs: &[Digest]) -> Vec<Digest> {
    let mut chain = Vec::with_capacity(diffs.len());
    for diff in diffs {
        chain.push(chain_id(chain.last(), diff));
    }
    chain
}

/// The directory of layers.
pub struct LayerDirectory {
    path: PathBuf,
    directory: OwnedFd,
    counter: AtomicU64,
    hidden: Mutex<Vec<String>>,
}

impl LayerDirectory {
    /// Opens the directory and sweeps what is temporary in it.
    pub fn open(path: PathBuf) -> Result<Self, ImageError> {
        let directory = open_directory(&path)?;
        cais_sys::tree::spread(&directory);
        let layers = Self {
            path,
            directory,
            counter: AtomicU64::new(0),
            hidden: Mutex::default(),
        };
        for name in layers.names()? {
            if name.starts_with(TEMPORARY) || name.starts_with('.') {
                layers.delete(&name)?;
            }
        }
        Ok(layers)
    }

    /// Names of everything in the directory.
    pub fn names(&self) -> Result<Vec<String>, ImageError> {
        let names = crate::tarball::export::sorted_names(self.directory.as_fd());
        let names = names.map_err(|error| ImageError::io("readdir", &self.path, error))?;
        Ok(names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect())
    }

    /// The path of a layer's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A name for something new.
    fn temporary(&self) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{TEMPORARY}{number}")
    }

    /// Gives a finished layer its final name. What has that name already belongs to no record and goes.
    pub fn publish(&self, temporary: &str, name: &str) -> Result<(), ImageError> {
        let directory = self.directory.as_fd();
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let rename = || rustix::fs::renameat_with(directory, temporary, directory, name, flags);
        match rename() {
            Err(Errno::EXIST) => {
                self.remove(name)?;
                rename()
            }
            result => result,
        }
        .map_err(|errno| ImageError::io("rename", self.path(temporary), errno))
    }

    /// Lets a finished layer and the one of that name take each other's place.
    pub fn exchange(&self, temporary: &str, name: &str) -> Result<(), ImageError> {
        let directory = self.directory.as_fd();
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(directory, temporary, directory, name, flags) {
            // The old one is gone.
            Err(Errno::NOENT) => rustix::fs::renameat(directory, temporary, directory, name),
            result => result,
        }
        .map_err(|errno| ImageError::io("rename", self.path(temporary), errno))
    }

    /// Removes a layer: invisible at once, then deleted.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        match self.rename_away(name)? {
            Some(temporary) => self.delete(&temporary),
            None => Ok(()),
        }
    }

    /// Makes a layer invisible at once; who holds the store's lock for changes deletes it after that, see [`Self::take_hidden`].
    pub fn hide(&self, name: &str) -> Result<(), ImageError> {
        let temporary = self.rename_away(name)?;
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.extend(temporary);
        Ok(())
    }

    /// Names of layers that were hidden and are to be deleted, each answered once.
    pub fn take_hidden(&self) -> Vec<String> {
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *hidden)
    }

    fn rename_away(&self, name: &str) -> Result<Option<String>, ImageError> {
        let temporary = self.temporary();
        let directory = self.directory.as_fd();
        match rustix::fs::renameat(directory, name, directory, &*temporary) {
            Ok(()) => Ok(Some(temporary)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(ImageError::io("rename", self.path(name), errno)),
        }
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), ImageError> {
        delete(self.directory.as_fd(), name)
            .map_err(|error| ImageError::io("remove", self.path(name), error))
    }

    /// Waits until everything written so far is on the disk.
    pub fn sync(&self) -> Result<(), ImageError> {
        rustix::fs::syncfs(&self.directory)
            .map_err(|errno| ImageError::io("syncfs", &self.path, errno))
    }

    /// Writes a layer's original tar stream and checks it against its digest; answers the bytes of the files in it.
    pub fn write_tar(
        &self,
        name: &str,
        want: &Digest,
        out: &mut impl Write,
    ) -> Result<u64, ImageError> {
        let path = self.path(name);
        let fail = |error: io::Error| match error.raw_os_error() {
            Some(_) => ImageError::io("read", &path, error),
            None => ImageError::Damaged(name.to_owned(), error.to_string()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |below: &str, flags| rustix::fs::open(path.join(below), flags, Mode::empty());
        let diff = open(DIFF, flags).map_err(|errno| fail(errno.into()))?;
        let record = open(RECORD, OFlags::RDONLY | OFlags::CLOEXEC);
        let record = File::from(record.map_err(|errno| fail(errno.into()))?);
        let shadow = open(SHADOW, flags).ok();
        let mut out = Hashing {
            out,
            hash: SideHash::new(),
        };
        let replayed = split::replay(&record, diff.as_fd(), shadow.as_ref(), &mut out);
        let bytes = replayed.map_err(fail)?;
        let have = out.hash.finish();
        if have != *want {
            return Err(ImageError::Verification {
                what: "layer",
                want: want.to_string(),
                have: have.to_string(),
            });
        }
        Ok(bytes)
    }
}

/// Deletes a tree by its name.
pub fn delete(parent: std::os::fd::BorrowedFd<'_>, name: &str) -> io::Result<()> {
    cais_sys::tree::remove(parent, &CString::new(name)?)
}

/// Opens a directory of ours, made if it is missing.
pub fn open_directory(path: &Path) -> Result<OwnedFd, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| ImageError::io("open", path, errno))
}

struct Hashing<'a, W> {
    out: &'a mut W,
    hash: SideHash,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
