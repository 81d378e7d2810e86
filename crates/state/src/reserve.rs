//! A little disk space kept aside, so that things can be removed and ends be recorded when not a byte is free: a change of
//! the database needs room before anything can be given back.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes kept.
const SIZE: u64 = 1 << 20;
/// Bytes given back at a time: another program that fills the disk may be faster than we are, and then there is a next time.
const STEP: u64 = 128 << 10;

/// The file that keeps the space.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    spent: AtomicBool,
}

impl Reserve {
    /// Sets space aside when there is some.
    pub fn new(path: PathBuf) -> Self {
        let reserve = Self {
            path,
            spent: AtomicBool::new(true),
        };
        reserve.fill();
        reserve
    }

    /// Sets aside again what has been spent, once the disk has room for it.
    pub fn fill(&self) {
        if !self.spent.load(Ordering::Relaxed) {
            return;
        }
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true);
        let Ok(file) = std::os::unix::fs::OpenOptionsExt::mode(file, 0o600).open(&self.path) else {
            return;
        };
        let before = file.metadata().map_or(0, |metadata| metadata.len());
        let filled = before >= SIZE || fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_ok();
        if !filled {
            let _ = file.set_len(before);
        }
        self.spent.store(!filled, Ordering::Relaxed);
    }

    /// Gives a part back to the disk; `false` when nothing is left.
    pub fn release(&self) -> bool {
        let Ok(file) = File::options().write(true).open(&self.path) else {
            return false;
        };
        let before = file.metadata().map_or(0, |metadata| metadata.len());
        self.spent.store(true, Ordering::Relaxed);
        before > 0 && file.set_len(before.saturating_sub(STEP)).is_ok()
    }
}
