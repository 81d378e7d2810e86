//! Shared memory of containers with `--ipc shareable`: a tmpfs on the host, because a bind mount needs a mount that the
//! joining container's monitor can see.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use cais_types::{Error, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::house::House;
use crate::record::Record;

/// Mounts the container's shared memory, when others may join it.
///
/// # Errors
/// Those of mount(2).
pub fn mount(house: &House, record: &Record) -> Result<()> {
    if record.host_config.ipc_mode != "shareable" {
        return Ok(());
    }
    let path = house.shm(&record.id);
    let failed = |error: String| {
        Error::internal(format!(
            "cannot mount shared memory at {}: {error}",
            path.display()
        ))
    };
    unmount(house, record);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(|error| failed(error.to_string()))?;
    let options = CString::new(format!("mode=1777,size={}", record.host_config.shm_size))
        .map_err(|error| failed(error.to_string()))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    rustix::mount::mount("shm", &path, "tmpfs", flags, options.as_c_str())
        .map_err(|error| failed(error.to_string()))
}

/// Unmounts it; not mounted is fine.
pub fn unmount(house: &House, record: &Record) {
    if record.host_config.ipc_mode != "shareable" {
        return;
    }
    let path = house.shm(&record.id);
    while rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}
