//! A little disk space kept aside, so that removing images still works when not a byte is free: a change of the database
//! needs room before anything can be given back.

use std::path::{Path, PathBuf};

use cais_state::StateError;
use rustix::fs::{FallocateFlags, Mode, OFlags};

/// Bytes kept.
const SIZE: u64 = 1 << 20;

/// The file that keeps the space.
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Sets space aside below `data_root` when there is some.
    pub fn new(data_root: &Path) -> Self {
        let reserve = Self {
            path: data_root.join("reserve"),
        };
        reserve.fill();
        reserve
    }

    /// Runs a change of the database; when the disk is full, once more with the space given back.
    pub fn with_room<T>(
        &self,
        change: impl Fn() -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let first = change();
        if first.is_ok() {
            return first;
        }
        match rustix::fs::unlink(&self.path) {
            Ok(()) => change(),
            Err(_) => first,
        }
    }

    /// Sets the space aside again, once something has been freed.
    pub fn fill(&self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let filled = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o600))
            .and_then(|file| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, SIZE));
        if filled.is_err() {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}
