//! Overlay mounts that are attached nowhere: they live as long as their descriptor and no other process sees them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::ImageError;

/// Mounts `lower` (topmost first) and, when given, `upper` and `work` on top; without an upper the mount is read-only.
pub fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<OwnedFd, ImageError> {
    let fail = |errno: rustix::io::Errno| ImageError::io("mount", "overlay", errno);
    if let ([only], None) = (lower, upper) {
        // One directory needs no overlay; overlayfs refuses it as well.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return rustix::fs::open(only, flags, Mode::empty())
            .map_err(|errno| ImageError::io("open", only, errno));
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail)?;
    let set = |key: &str, value: &Path| {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(fail)
    };
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", "cais").map_err(fail)?;
    for option in ["index", "metacopy"] {
        // A kernel without the feature has no such option, and then it is off.
        let _ = rustix::mount::fsconfig_set_string(context.as_fd(), option, "off");
    }
    set_lower(&context, lower)?;
    if let Some((upper, work)) = upper {
        set("upperdir", upper)?;
        set("workdir", work)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(fail)?;
    let attributes = match upper {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = rustix::mount::fsmount(context.as_fd(), flags, attributes).map_err(fail)?;
    // The mount's own descriptor is O_PATH; callers read the directory.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, c".", flags, Mode::empty()).map_err(fail)
}

/// One `lowerdir+` per layer (Linux 6.5); before that one `lowerdir` list, which the kernel limits to 256 bytes, so
/// that it names descriptors.
fn set_lower(context: &OwnedFd, lower: &[PathBuf]) -> Result<(), ImageError> {
    use std::os::fd::AsRawFd;
    let fail = |errno: rustix::io::Errno| ImageError::io("mount", "overlay", errno);
    for (place, directory) in lower.iter().enumerate() {
        let result = rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", &**directory);
        match result {
            Err(rustix::io::Errno::INVAL) if place == 0 => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let open = |path| rustix::fs::open(path, flags, Mode::empty()).map_err(fail);
                let opened: Vec<_> = lower.iter().map(open).collect::<Result<_, _>>()?;
                let names = opened
                    .iter()
                    .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()));
                let list = names.collect::<Vec<_>>().join(":");
                return rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", &*list)
                    .map_err(fail);
            }
            result => result.map_err(fail)?,
        }
    }
    Ok(())
}
