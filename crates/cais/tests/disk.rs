//! Small disks that tests fill.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The file that takes the room.
const BALLAST: &str = "ballast";
const PAGE: u64 = 4096;

/// A file system of its own for as long as it lives.
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

    /// An ext4 on a file beside it, which has a journal and gives out blocks late.
    pub fn ext4(path: impl Into<PathBuf>, size: u64) -> Self {
        let path = path.into();
        std::fs::create_dir_all(&path).unwrap();
        let image = path.with_extension("ext4");
        File::create(&image).unwrap().set_len(size).unwrap();
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        };
        let mut make = Command::new("mkfs.ext4");
        run(make.args(["-q", "-m", "0", "-b", "4096"]).arg(&image));
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).args([&image, &path]));
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
        let mut taken = self.free().saturating_sub(left) / PAGE * PAGE;
        // A file system needs some of what is free for itself.
        while taken > 0 && fallocate(&file, FallocateFlags::empty(), 0, taken).is_err() {
            file.set_len(0).unwrap();
            taken = taken.saturating_sub(PAGE);
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
