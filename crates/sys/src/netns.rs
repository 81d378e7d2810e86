//! Network namespaces of single threads (network_namespaces(7)).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Moves the calling thread into a new network namespace that holds a `lo` which is down.
pub fn unshare() -> io::Result<()> {
    // SAFETY: the descriptor table stays shared; only the network namespace of this thread changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread into a new mount namespace (and out of the shared working directory), so that a test can
/// mount a `/sys` of its network namespace.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the descriptor table stays shared; only mounts and the working directory of this thread become its own.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    Ok(())
}

/// The network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        flags,
        Mode::empty(),
    )?)
}

/// Moves the calling thread into a network namespace.
pub fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(
        netns,
        Some(LinkNameSpaceType::Network),
    )?)
}
