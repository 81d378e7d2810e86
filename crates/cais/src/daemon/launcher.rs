//! Starting monitors: from a copy of our own binary that no container can write to, opened once.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use cais_engine::launcher::Launcher;
use cais_sys::launch::Launchpad;
use cais_sys::mntns;
use cais_types::{ContainerId, Error, Result};

/// Starts monitors and reaps those that ended.
pub struct Monitors {
    binary: OwnedFd,
    launchpad: Launchpad,
    empty_mounts: Option<OwnedFd>,
    running: Mutex<HashMap<ContainerId, OwnedFd>>,
}

impl Monitors {
    /// Monitors from this binary; to be made before the daemon opens much else.
    ///
    /// # Errors
    /// Internal: no descriptors are left.
    pub fn new(binary: OwnedFd) -> Result<Self> {
        Ok(Self {
            binary,
            launchpad: Launchpad::new().map_err(failed)?,
            empty_mounts: empty_mounts(),
            running: Mutex::new(HashMap::new()),
        })
    }
}

/// Not in a user namespace, where a container's procfs needs another one that can be seen whole, and not where no process can
/// change its root (a host that runs from its initramfs).
fn empty_mounts() -> Option<OwnedFd> {
    if cais_sys::process::in_user_namespace() {
        return None;
    }
    mntns::empty()
        .inspect_err(|error| tracing::warn!(%error, "mounts of containers begin as the host's"))
        .ok()
}

fn failed(error: io::Error) -> Error {
    Error::internal(format!("cannot start a monitor: {error}")).with_source(error)
}

impl Launcher for Monitors {
    fn launch(&self, container: &ContainerId) -> Result<OwnedFd> {
        let name = container.to_string();
        let launched = cais_monitor::launch(&self.launchpad, self.binary.as_fd(), &name);
        let launched = launched.map_err(failed)?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = running.insert(*container, launched.pidfd) {
            reap(&earlier);
        }
        Ok(launched.socket)
    }

    fn empty_mounts(&self) -> Option<BorrowedFd<'_>> {
        self.empty_mounts.as_ref().map(AsFd::as_fd)
    }

    fn ended(&self, container: &ContainerId) {
        let pidfd = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(container);
        if let Some(pidfd) = pidfd {
            reap(&pidfd);
        }
    }
}

/// Its socket is closed, so it is about to end, if it has not.
fn reap(pidfd: &OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}
