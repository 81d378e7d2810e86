//! Starting a monitor process, behind a trait so that tests put a thread in its place.

use std::os::fd::{BorrowedFd, OwnedFd};

use cais_types::{ContainerId, Result};

/// Starts monitors; filled by the composition root with the runtime's launcher.
pub trait Launcher: Send + Sync {
    /// Starts a monitor and answers the engine's end of its launch socket (a connected stream socket). Blocks for as long
    /// as spawning a process takes.
    fn launch(&self, container: &ContainerId) -> Result<OwnedFd>;
    /// An empty mount namespace, from which the mounts of containers can begin.
    fn empty_mounts(&self) -> Option<BorrowedFd<'_>>;
    /// Makes sure that the child process of an ended monitor does not stay a zombie. Called after the connection closed and
    /// never while a newer monitor of the container runs; may block until the process has ended. Unknown ones are fine.
    fn ended(&self, container: &ContainerId);
}
