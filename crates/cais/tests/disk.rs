//! Small disks that tests fill.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The file that takes the room.
const BALLAST: &str = "ballast";
const PAGE: u64 = 4096;

/// A tmpfs of its own for as long as it lives.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many bytes at a directory, which is made.
    pub fn new(path: impl Into<PathBuf>, size: u64) -> Self {
        let path = path.into();
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(path)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The flag of a daemon that has its data here.
    pub fn data_root(&self) -> String {
        format!("--data-root={}", self.0.join("data").display())
    }

    /// Bytes that nobody has.
    pub fn free(&self) -> u64 {
        let stat = statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all room but so many bytes, or a page more.
    pub fn fill(&self, left: u64) {
        self.clear();
        let file = File::create(self.0.join(BALLAST)).unwrap();
        let free = self.free();
        let taken = free.saturating_sub(left) / PAGE * PAGE;
        if taken > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, taken).unwrap();
        }
    }

    /// Gives the room back.
    pub fn clear(&self) {
        let _not_filled = std::fs::remove_file(self.0.join(BALLAST));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
