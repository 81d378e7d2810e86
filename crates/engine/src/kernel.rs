//! What the engine asks of the kernel about a container besides starting it: its cgroup and its init. Behind a trait so
//! that the state machine is tested without either.

use std::os::fd::AsFd;

use cais_monitor::protocol::ProcessIdentity;
use cais_runtime::cgroups::{Cgroup, Stats};
use cais_runtime::spec::LinuxResources;
use cais_sys::pidfd;
use cais_types::{ErrorClass, Result};

use cais_types::signals;

/// Cgroups and processes of running containers.
pub trait Kernel: Send + Sync {
    /// Stops (`true`) or continues all processes of a cgroup; answers when they have stopped.
    fn freeze(&self, cgroup: &str, frozen: bool) -> Result<()>;
    /// Changes limits of a cgroup.
    fn limit(&self, cgroup: &str, resources: &LinuxResources) -> Result<()>;
    /// Ends whatever is left of a container whose monitor is gone: its init, if it is still that process, everything in
    /// its cgroup, and the cgroup itself. A missing cgroup is no error.
    fn clear(&self, cgroup: &str, init: Option<ProcessIdentity>) -> Result<()>;
    /// What a cgroup uses now.
    fn figures(&self, cgroup: &str) -> Result<Stats>;
    /// All processes of a cgroup, as the host numbers them.
    fn processes(&self, cgroup: &str) -> Result<Vec<i32>>;
}

/// The kernel of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostKernel;

impl Kernel for HostKernel {
    fn freeze(&self, cgroup: &str, frozen: bool) -> Result<()> {
        let cgroup = Cgroup::open(cgroup)?;
        if frozen {
            cgroup.freeze()?
        } else {
            cgroup.thaw()?
        }
        Ok(())
    }

    fn limit(&self, cgroup: &str, resources: &LinuxResources) -> Result<()> {
        Ok(Cgroup::open(cgroup)?.apply(resources)?)
    }

    fn clear(&self, cgroup: &str, init: Option<ProcessIdentity>) -> Result<()> {
        if let Some(init) = init {
            kill(init);
        }
        match Cgroup::open(cgroup) {
            Ok(cgroup) => {
                cgroup.kill_all()?;
                Ok(cgroup.remove()?)
            }
            Err(error) if error.class() == ErrorClass::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn figures(&self, cgroup: &str) -> Result<Stats> {
        Ok(Cgroup::open(cgroup)?.stats()?)
    }

    fn processes(&self, cgroup: &str) -> Result<Vec<i32>> {
        Ok(Cgroup::open(cgroup)?.pids()?)
    }
}

/// Kills a process, if it is still the one that is meant.
pub fn kill(process: ProcessIdentity) {
    let Ok(pidfd) = pidfd::open(process.pid) else {
        return;
    };
    // Checked after the descriptor is open: from then on the number cannot mean another process.
    if pidfd::start_time(process.pid).is_ok_and(|ticks| ticks == process.start_time)
        && let Err(error) = pidfd::send_signal(pidfd.as_fd(), signals::KILL)
    {
        tracing::debug!(pid = process.pid, %error, "killing a process");
    }
}
