//! Kernel settings of the network namespace of the calling thread.

use std::io;

use rustix::fs::{Mode, OFlags};

/// Writes a setting below `/proc/sys/net/`; `name` has slashes.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

/// Reads a setting below `/proc/sys/net/` without its newline.
pub fn get(name: &str) -> io::Result<String> {
    let path = format!("/proc/sys/net/{name}");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 256];
    let length = rustix::io::read(file, &mut buffer[..])?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}

/// Like [`set`], where a kernel without this setting is right already.
pub fn set_if_there(name: &str, value: &str) -> io::Result<()> {
    match set(name, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
