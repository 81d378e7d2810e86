//! The monitor's container: made, added to and removed through the runtime.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use cais_sys::overlay;
use cais_sys::process::namespace;

use super::protocol::{self, Failure, FailureClass, Launch, ProcessIdentity};
use super::runner::{ProcessStdio, Runner, Running, Started};
use cais_runtime::cgroups::Cgroup;
use cais_runtime::container::{
    Class, CreateRequest, Created, ExecRequest, Process, Rootfs, RuntimeError, Stdio, create, exec,
};
use cais_runtime::seccomp;
use cais_runtime::spec::{self, NamespaceType};

/// One container, from its launch to its removal.
pub struct Container {
    id: String,
    directory: PathBuf,
    /// Until the creation.
    prepared: Option<Prepared>,
    /// From the creation to the start.
    created: Option<(Created, Kept)>,
    live: Option<Live>,
}

struct Prepared {
    spec: Box<spec::Spec>,
    rootfs: Rootfs,
    empty_mounts: Option<OwnedFd>,
}

struct Live {
    process: Process,
    cgroup: Cgroup,
    kept: Kept,
    /// Kept for execs.
    filter: Option<seccomp::Program>,
    /// Init has ended, and nothing else can be running.
    empty: bool,
}

/// What is left of the specification once the container is created.
struct Kept {
    seccomp: Option<spec::LinuxSeccomp>,
    /// Bits of the namespaces that execs join.
    namespaces: u64,
    personality: Option<spec::LinuxPersonality>,
    /// Init's end ends every process of the container.
    own_pids: bool,
}

impl Container {
    /// Does all that needs no network: the root file system is mounted, outside every mount namespace. The container's mounts
    /// begin from `empty_mounts` where they can.
    pub fn prepare(launch: Launch, empty_mounts: Option<OwnedFd>) -> Result<Self, Failure> {
        let rootfs = match launch.rootfs {
            protocol::Rootfs::Overlay {
                lower,
                upper,
                work,
                durable,
            } => {
                let upper = overlay::Upper {
                    files: &upper,
                    work: &work,
                    durable,
                };
                Rootfs::Mount(overlay::mount(&lower, Some(upper))?)
            }
            protocol::Rootfs::Directory(path) => Rootfs::Directory(path),
        };
        Ok(Self {
            id: launch.id,
            directory: launch.directory,
            prepared: Some(Prepared {
                spec: Box::new(launch.spec),
                rootfs,
                empty_mounts,
            }),
            created: None,
            live: None,
        })
    }
}

impl Runner for Container {
    fn create(&mut self, stdio: ProcessStdio, network: Option<OwnedFd>) -> Result<(), Failure> {
        let Some(Prepared {
            mut spec,
            rootfs,
            empty_mounts,
        }) = self.prepared.take()
        else {
            return Err(Failure::new(
                FailureClass::Invalid,
                "container is already created",
            ));
        };
        let namespaces = namespace_bits(&spec) | if network.is_some() { namespace::NET } else { 0 };
        let created = create(CreateRequest {
            id: &self.id,
            spec: &spec,
            bundle: &self.directory,
            rootfs,
            stdio: stdio.into(),
            netns: network,
            preserve_fds: 0,
            no_new_keyring: false,
            die_with_parent: true,
            starter: None,
            empty_mounts,
        })?;
        let own_pids = has_own_pids(&spec);
        let linux = spec.linux.take().unwrap_or_default();
        let kept = Kept {
            seccomp: linux.seccomp,
            namespaces,
            personality: linux.personality,
            own_pids,
        };
        self.created = Some((created, kept));
        Ok(())
    }

    fn start(&mut self) -> Result<Started, Failure> {
        let Some((created, mut kept)) = self.created.take() else {
            return Err(Failure::new(
                FailureClass::Invalid,
                "container is not created",
            ));
        };
        let (process, console, cgroup) = created.start()?;
        let running = running(&process)?;
        let filter = kept.seccomp.take();
        let filter = filter.as_ref().map(seccomp::compile).transpose();
        self.live = Some(Live {
            process,
            cgroup,
            kept,
            filter: filter
                .map_err(|error| Failure::new(FailureClass::Invalid, error.to_string()))?,
            empty: false,
        });
        Ok(Started { running, console })
    }

    fn exec(&mut self, process: &spec::Process, stdio: ProcessStdio) -> Result<Started, Failure> {
        let Some(live) = &self.live else {
            return Err(Failure::new(
                FailureClass::NotRunning,
                "container is not running",
            ));
        };
        let (process, console) = exec(ExecRequest {
            init_pidfd: live.process.pidfd.as_fd(),
            init_pid: live.process.pid,
            namespaces: live.kept.namespaces,
            process,
            stdio: stdio.into(),
            cgroup: &live.cgroup,
            filter: live.filter.clone(),
            personality: live.kept.personality.as_ref(),
            preserve_fds: 0,
            die_with_parent: false,
        })?;
        Ok(Started {
            running: running(&process)?,
            console,
        })
    }

    fn kill_rest(&mut self) {
        if let Some(live) = &mut self.live {
            live.empty = live.kept.own_pids || live.cgroup.kill_all().is_ok();
        }
    }

    fn oom_killed(&self) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.cgroup.oom_kills().is_ok_and(|kills| kills > 0))
    }

    fn remove(&mut self) {
        self.prepared = None;
        if let Some((created, _)) = self.created.take() {
            created.abandon();
        }
        if let Some(live) = self.live.take() {
            if !live.empty {
                live.cgroup.kill_all().ok();
            }
            live.cgroup.remove().ok();
        }
    }
}

impl From<ProcessStdio> for Stdio {
    fn from(stdio: ProcessStdio) -> Self {
        match stdio {
            ProcessStdio::Terminal => Self::Terminal,
            ProcessStdio::Descriptors {
                stdin,
                stdout,
                stderr,
            } => Self::Descriptors {
                stdin,
                stdout,
                stderr,
            },
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let class = match error.class {
            Class::CommandNotFound => FailureClass::CommandNotFound,
            Class::CommandNotExecutable => FailureClass::CommandNotExecutable,
            Class::Invalid => FailureClass::Invalid,
            Class::Internal => FailureClass::Internal,
        };
        Self::new(class, error.message)
    }
}

fn namespace_bits(spec: &spec::Spec) -> u64 {
    let wanted = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    wanted.fold(0, |bits, one| {
        bits | cais_runtime::container::namespace_bit(one.kind)
    })
}

fn running(process: &Process) -> Result<Running, Failure> {
    let identity = ProcessIdentity {
        pid: process.pid,
        start_time: process.start_time,
    };
    Ok(Running {
        identity,
        pidfd: process.pidfd.try_clone()?,
    })
}

/// Whether the container has a process namespace that is neither the host's nor another container's.
fn has_own_pids(spec: &spec::Spec) -> bool {
    spec.linux
        .iter()
        .flat_map(|linux| &linux.namespaces)
        .any(|namespace| namespace.kind == NamespaceType::Pid && namespace.path.is_none())
}
