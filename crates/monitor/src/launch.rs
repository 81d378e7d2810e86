//! Starting a monitor, called by the engine.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use cais_sys::launch::{Launchpad, Program};

/// A monitor that waits for its [`super::protocol::Launch`] message.
#[derive(Debug)]
pub struct Launched {
    /// A child of the calling process, to be reaped through `pidfd` when it ends.
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The engine's end of the launch socket, in blocking mode.
    pub socket: OwnedFd,
}

/// Starts a monitor from the project's own binary, given as an open file that containers cannot write to. The calling process
/// may have any number of threads. `container` is only shown by `ps`.
pub fn launch(
    launchpad: &Launchpad,
    binary: BorrowedFd<'_>,
    container: &str,
) -> io::Result<Launched> {
    let container = CString::new(container)?;
    let (socket, far) = cais_sys::socket::pair()?;
    let child = launchpad.launch(&Program {
        file: binary,
        arguments: &[c"cais-monitor", &container],
        environment: &[],
        descriptor: far.as_fd(),
    })?;
    Ok(Launched {
        pid: child.pid,
        pidfd: child.pidfd,
        socket,
    })
}
