//! Our own binary as a file that nobody can write to through `/proc/<pid>/exe` (CVE-2019-5736).

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};

use crate::mount;

/// Whether the running binary cannot be written: it lies on a read-only overlay of ours or in a sealed memory file.
pub fn is_sealed() -> io::Result<bool> {
    let exe = open_self()?;
    if rustix::fs::fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(true);
    }
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let overlay = rustix::fs::fstatfs(&exe)?.f_type == OVERLAYFS_SUPER_MAGIC;
    let read_only = rustix::fs::fstatvfs(&exe)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    // A detached mount has no path that a root file system of some distribution could share with it.
    Ok(overlay && read_only)
}

fn open_self() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/proc/self/exe",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A descriptor of our binary that can be executed and never written: through a read-only overlay mount that is attached
/// nowhere, or, where that is not possible, a sealed copy in memory.
pub fn sealed() -> io::Result<OwnedFd> {
    if is_sealed()? {
        return open_self();
    }
    through_overlay().or_else(|_| copy_in_memory())
}

fn through_overlay() -> io::Result<OwnedFd> {
    let path = std::env::current_exe()?;
    let (directory, name) = path
        .parent()
        .zip(path.file_name())
        .ok_or(io::ErrorKind::NotFound)?;
    let directory = directory.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    // An overlay without an upper layer wants two lower ones. The second is any other directory: what the first has hides it.
    let second = if directory.starts_with("/dev") {
        "/proc"
    } else {
        "/dev"
    };
    let lower = format!(
        "{}:{second}",
        directory.replace('\\', "\\\\").replace(':', "\\:")
    );
    let attributes =
        mount::attribute::READ_ONLY | mount::attribute::NO_SUID | mount::attribute::NO_DEV;
    let overlay = mount::new("overlay", None, &[("lowerdir", Some(&lower))], attributes)?;
    let binary = rustix::fs::openat(
        &overlay,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    same_size(&binary)?;
    Ok(binary)
}

/// The path may have been replaced since this process started.
fn same_size(binary: &OwnedFd) -> io::Result<()> {
    let (ours, theirs) = (rustix::fs::fstat(open_self()?)?, rustix::fs::fstat(binary)?);
    if ours.st_size != theirs.st_size || ours.st_mtime != theirs.st_mtime {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

fn copy_in_memory() -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("cais", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let (mut from, mut to) = (File::from(open_self()?), File::from(copy));
    io::copy(&mut from, &mut to)?;
    rustix::fs::fcntl_add_seals(
        &to,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    // A descriptor open for writing could not be executed.
    let path = format!("/proc/self/fd/{}", to.as_raw_fd());
    Ok(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Executes the sealed binary with the same arguments and environment unless it runs already; comes back only then, or with
/// the reason why it cannot.
pub fn reexecute_sealed() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let binary = sealed()?;
    let bytes = |text: OsString| CString::new(text.into_vec());
    let arguments = std::env::args_os()
        .map(bytes)
        .collect::<Result<Vec<_>, _>>()?;
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut line = name;
        line.push("=");
        line.push(value);
        bytes(line)
    });
    let environment = environment.collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(format!("/proc/self/fd/{}", binary.as_fd().as_raw_fd()))?;
    Err(crate::process::execute(&path, &arguments, &environment))
}
