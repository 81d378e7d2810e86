//! Root file systems of images and stopped containers, mounted nowhere.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cais_sys::overlay::Upper;
use rustix::fs::{Mode, OFlags};

use crate::error::ImageError;

/// Mounts `lower` (topmost first) and, when given, `upper` on top, and opens the root for reading; without an upper the mount is
/// read-only.
pub fn overlay(lower: &[PathBuf], upper: Option<Upper<'_>>) -> Result<OwnedFd, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let ([only], None) = (lower, &upper) {
        // One directory needs no overlay; overlayfs refuses it as well.
        return rustix::fs::open(only, flags, Mode::empty())
            .map_err(|errno| ImageError::io("open", only, errno));
    }
    let mount = cais_sys::overlay::mount(lower, upper)
        .map_err(|error| ImageError::io("mount", "overlay", error))?;
    // The mount's own descriptor is O_PATH; callers read the directory.
    rustix::fs::openat(&mount, c".", flags, Mode::empty())
        .map_err(|errno| ImageError::io("open", "overlay", errno))
}
