//! One container: made from a specification, started, joined by more processes.
//!
//! The caller has one thread. It clones init straight into its new namespaces; init reports over a socket and waits there for
//! the word to execute. Nothing but init and the caller takes part.

mod check;
mod create;
mod devices;
mod exec;
mod finish;
pub mod hooks;
mod init;
mod listener;
mod memory;
mod mounts;
mod namespaces;
mod report;
mod rootfs;

pub use check::{apparmor_enabled, selinux_enabled};
pub use create::{CreateRequest, Created, create, start_through};
pub use exec::{ExecRequest, exec};
pub use mounts::known_options as mount_options;
pub use namespaces::bit as namespace_bit;
pub use report::{Class, RuntimeError, plain};

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory.
    Directory(PathBuf),
    /// A mount that is attached nowhere.
    Mount(OwnedFd),
}

/// What a process gets as standard input, output and error.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's.
    Inherit,
    Descriptors {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal of the container's devpts; its controller comes back to the caller.
    Terminal,
}

impl Stdio {
    /// The descriptors that are not the caller's own streams.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Inherit | Self::Terminal => Vec::new(),
            Self::Descriptors {
                stdin,
                stdout,
                stderr,
            } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        }
    }
}

/// A process of a container, a child of the caller.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks.
    pub start_time: u64,
}
