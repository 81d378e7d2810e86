//! The content store: small documents (configurations, manifests) by their digest, `blobs/sha256/<hex>`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use cais_types::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::error::ImageError;

/// Largest document kept: manifests and configurations beyond this are refused.
pub const DOCUMENT_MAX: u64 = 8 * 1024 * 1024;

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// The directory of documents.
pub struct Content {
    directory: OwnedFd,
    counter: AtomicU64,
}

impl Content {
    /// Uses an open directory.
    pub fn new(directory: OwnedFd) -> Self {
        Self {
            directory,
            counter: AtomicU64::new(0),
        }
    }

    /// Keeps a document; it is visible once it is whole. Made durable by the caller's syncfs. Answers its digest, and whether
    /// it was not here before.
    pub fn put(&self, bytes: &[u8]) -> Result<(Digest, bool), ImageError> {
        let digest = digest(bytes);
        let name = digest.hex();
        let fail = |errno| ImageError::io("write", format!("blobs/sha256/{name}"), errno);
        if rustix::fs::statat(&self.directory, &*name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok((digest, false));
        }
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".tmp-{number}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&self.directory, &*temporary, flags, mode);
        let mut file = File::from(file.map_err(|errno| fail(errno.into()))?);
        let renamed = file.write_all(bytes).and_then(|()| {
            let directory = self.directory.as_fd();
            Ok(rustix::fs::renameat(
                directory,
                &*temporary,
                directory,
                &*name,
            )?)
        });
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(&self.directory, &*temporary, AtFlags::empty());
        }
        renamed.map_err(fail)?;
        Ok((digest, true))
    }

    /// Reads a document and checks that it is what its name says.
    pub fn get(&self, want: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = format!("blobs/sha256/{}", want.hex());
        let fail = |source: std::io::Error| ImageError::io("open", &path, source);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &*want.hex(), flags, Mode::empty());
        let file = File::from(file.map_err(|errno| fail(errno.into()))?);
        let size = rustix::fs::fstat(&file).map_or(0, |stat| stat.st_size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(DOCUMENT_MAX)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        let have = digest(&bytes);
        if have != *want {
            return Err(ImageError::Verification {
                what: "blob",
                want: want.to_string(),
                have: have.to_string(),
            });
        }
        Ok(bytes)
    }

    /// Whether a document is there; it is not read.
    pub fn has(&self, digest: &Digest) -> bool {
        rustix::fs::statat(&self.directory, &*digest.hex(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Names of everything in the directory that can be a document.
    pub fn names(&self) -> Result<Vec<String>, ImageError> {
        let names = crate::tarball::export::sorted_names(self.directory.as_fd());
        let names = names.map_err(|error| ImageError::io("readdir", "blobs/sha256", error))?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.collect())
    }

    /// Deletes a document; a missing one is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), ImageError> {
        self.remove_name(&digest.hex())
    }

    /// Deletes what has this name; a missing one is no error.
    pub fn remove_name(&self, name: &str) -> Result<(), ImageError> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(ImageError::io("unlink", name, errno)),
        }
    }

    /// Deletes half-written documents and those that `keep` refuses.
    pub fn sweep(&self, keep: impl Fn(&str) -> bool) -> Result<(), ImageError> {
        let names = crate::tarball::export::sorted_names(self.directory.as_fd());
        for name in names.map_err(|error| ImageError::io("readdir", "blobs/sha256", error))? {
            if !name.to_str().is_ok_and(&keep) {
                rustix::fs::unlinkat(&self.directory, &*name, AtFlags::empty())
                    .map_err(|errno| ImageError::io("unlink", "blobs/sha256", errno))?;
            }
        }
        Ok(())
    }
}
