//! Descriptors handed to who asked for them, and files that tell numbers.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::{Result, io};

/// Sends a terminal's controller with its name, as containerd and conmon expect it.
pub fn send(socket: &str, controller: BorrowedFd<'_>) -> Result<()> {
    send_named(socket, b"/dev/ptmx", controller)
}

/// Sends a process's descriptor.
pub fn send_pidfd(socket: &str, pidfd: BorrowedFd<'_>) -> Result<()> {
    send_named(socket, b"pidfd", pidfd)
}

fn send_named(socket: &str, name: &[u8], descriptor: BorrowedFd<'_>) -> Result<()> {
    let connection =
        cais_sys::socket::connect(Path::new(socket)).map_err(io(format!("connect to {socket}")))?;
    cais_sys::socket::send_all(connection.as_fd(), name, &[descriptor])
        .map_err(io(format!("send to {socket}")))
}

/// Writes a number into a file that appears with its whole content.
pub fn write_pid_file(path: &str, pid: i32) -> Result<()> {
    let path = Path::new(path);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let fresh = path.with_file_name(name);
    std::fs::write(&fresh, pid.to_string())
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(io(format!("write pid file {}", path.display())))
}
