//! The maker's side of a new container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cais_sys::process::{Child, namespace};

use super::init::{self, Init};
use super::namespaces::{ChildrenIn, Namespaces};
use super::report::{self, Channel, Class, Result, RuntimeError, during};
use super::rootfs::Beginning;
use super::{Process, Rootfs, Stdio};
use super::{check, hooks, mounts};
use crate::cgroups::Cgroup;
use crate::seccomp;
use crate::spec::{Linux, LinuxIdMapping, LinuxResources, Spec, Status};

/// What a container is made from.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    pub bundle: &'a Path,
    pub rootfs: Rootfs,
    pub stdio: Stdio,
    /// Joined instead of the network namespace of the specification.
    pub netns: Option<OwnedFd>,
    /// Descriptors 3 and on that the program inherits.
    pub preserve_fds: u32,
    /// No new session keyring.
    pub no_new_keyring: bool,
    /// Init is killed when the caller ends.
    pub die_with_parent: bool,
    /// A listening socket of packets: init waits there for a later process that starts it ([`super::start`]), and not for the
    /// caller.
    pub starter: Option<OwnedFd>,
    /// A namespace of [`cais_sys::mntns::empty`] that the container's mounts begin from, where that is possible: a copy of the
    /// host's takes longer the more mounts and processes the host has.
    pub empty_mounts: Option<OwnedFd>,
}

/// A container whose init waits to execute.
#[derive(Debug)]
pub struct Created {
    pub process: Process,
    /// The controller of init's terminal.
    pub console: Option<OwnedFd>,
    pub cgroup: Cgroup,
    channel: Channel,
}

impl Created {
    /// Lets init execute its program.
    ///
    /// # Errors
    /// What the kernel says of the program.
    pub fn start(self) -> Result<(Process, Option<OwnedFd>, Cgroup)> {
        start(&self.channel)?;
        Ok((self.process, self.console, self.cgroup))
    }

    /// Undoes it.
    pub fn abandon(self) {
        let _ = cais_sys::pidfd::send_signal(self.process.pidfd.as_fd(), 9);
        let _ = cais_sys::pidfd::wait(self.process.pidfd.as_fd());
        let _ = self.cgroup.remove();
    }

    /// What stays when another process is to start init.
    pub fn leave(self) -> (Process, Option<OwnedFd>, Cgroup) {
        (self.process, self.console, self.cgroup)
    }
}

fn start(channel: &Channel) -> Result<()> {
    channel
        .go()
        .map_err(during("wake the container's process"))?;
    channel.wait_executed()
}

/// Lets an init execute its program that waits at the other end of a connection to [`CreateRequest::starter`].
///
/// # Errors
/// What the kernel says of the program, or that init has gone.
pub fn start_through(connection: OwnedFd) -> Result<()> {
    start(&Channel::from_fd(connection))
}

/// Makes the cgroup, the namespaces and init, which prepares everything and waits. Nothing stays of a container that could not be
/// made.
///
/// # Errors
/// The step that failed and why.
pub fn create(request: CreateRequest<'_>) -> Result<Created> {
    let linux = request.spec.linux.clone().unwrap_or_default();
    let namespaces = Namespaces::plan(request.spec, request.netns)?;
    check::all(request.spec, &namespaces)?;
    let id_maps = mounts::id_maps(request.spec)?;
    let filter = linux.seccomp.as_ref().map(seccomp::compile).transpose();
    let filter = filter.map_err(|error| RuntimeError::invalid(format!("seccomp: {error}")))?;
    let none = LinuxResources::default();
    let path = linux
        .cgroups_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or(request.id);
    let cgroup =
        Cgroup::create(path, linux.resources.as_ref().unwrap_or(&none)).map_err(report::cgroup)?;
    let init = Init {
        id: request.id,
        spec: request.spec,
        bundle: request.bundle,
        rootfs: request.rootfs,
        stdio: request.stdio,
        preserve_fds: request.preserve_fds,
        new_keyring: !request.no_new_keyring,
        die_with_parent: request.die_with_parent,
        starter: request.starter,
        empty_mounts: request
            .empty_mounts
            .filter(|_| Beginning::may_be_empty(request.spec, &namespaces)),
        id_maps,
        filter,
        namespaces: &namespaces,
        cgroup: &cgroup,
    };
    let made = make(request.id, request.bundle, request.spec, &linux, init);
    let (process, console, channel) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
            return Err(error);
        }
    };
    Ok(Created {
        process,
        console,
        cgroup,
        channel,
    })
}

fn make(
    id: &str,
    bundle: &Path,
    spec: &Spec,
    linux: &Linux,
    init: Init<'_>,
) -> Result<(Process, Option<OwnedFd>, Channel)> {
    let (ours, theirs) = Channel::pair().map_err(during("socketpair"))?;
    let namespaces = init.namespaces;
    let cgroup = init.cgroup;
    // A new cgroup namespace shows the cgroup that its maker is in: init makes it once it is in its own.
    let later = namespace::CGROUP | init.empty_mounts.as_ref().map_or(0, |_| namespace::MOUNT);
    let at_clone = namespaces.new & !later;
    let mut ours = Some(ours);
    let child = {
        let _children = ChildrenIn::namespace(namespaces.pid_to_join())?;
        let _clocks = Clocks::shift(linux, namespaces.new)?;
        let at_clone = at_clone & !namespace::TIME;
        cais_sys::process::copy(at_clone, cgroup.directory_for_clone(), || {
            // The child's copy of the maker's end must not keep the maker alive in its eyes.
            drop(ours.take());
            init::main(init, &theirs)
        })
        .map_err(during("clone"))?
    };
    let Some(ours) = ours else {
        return Err(RuntimeError::new(Class::Internal, "clone"));
    };
    drop(theirs);
    match parent(id, bundle, spec, linux, &child, &ours, namespaces) {
        Ok(console) => {
            let start_time =
                cais_sys::pidfd::start_time(child.pid).map_err(during("read /proc/<pid>/stat"))?;
            Ok((
                Process {
                    pid: child.pid,
                    pidfd: child.pidfd,
                    start_time,
                },
                console,
                ours,
            ))
        }
        Err(error) => {
            let _ = cais_sys::pidfd::send_signal(child.pidfd.as_fd(), 9);
            let _ = cais_sys::pidfd::wait(child.pidfd.as_fd());
            Err(error)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one step")]
fn parent(
    id: &str,
    bundle: &Path,
    spec: &Spec,
    linux: &Linux,
    child: &Child,
    channel: &Channel,
    namespaces: &Namespaces,
) -> Result<Option<OwnedFd>> {
    // When init has died already, what it said is still to be read.
    if namespaces.new & namespace::USER != 0 {
        map_ids(child.pid, linux)?;
        let _ = channel.go();
    }
    if let Some(hooks) = spec.hooks.as_ref().filter(|hooks| hooks.before_pivot()) {
        channel.wait_mounted()?;
        let state = hooks::state(id, Status::Creating, child.pid, bundle, spec);
        hooks::run("prestart", &hooks.prestart, &state)?;
        hooks::run("createRuntime", &hooks.create_runtime, &state)?;
        let _ = channel.go();
    }
    channel.wait_ready()
}

fn map_ids(pid: i32, linux: &Linux) -> Result<()> {
    let write = |file: &str, mappings: &[LinuxIdMapping]| {
        let lines = mappings
            .iter()
            .map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size));
        std::fs::write(format!("/proc/{pid}/{file}"), lines.collect::<String>())
            .map_err(during(format!("write /proc/<pid>/{file}")))
    };
    write("uid_map", &linux.uid_mappings)?;
    write("gid_map", &linux.gid_mappings)
}

/// A time namespace for children, with its offsets, until it is dropped.
struct Clocks(Option<OwnedFd>);

impl Clocks {
    fn shift(linux: &Linux, new: u64) -> Result<Self> {
        if new & namespace::TIME == 0 {
            return Ok(Self(None));
        }
        use rustix::fs::{Mode, OFlags, open};
        let own = open(
            "/proc/self/ns/time",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(during("open own time namespace"))?;
        cais_sys::process::unshare(namespace::TIME).map_err(during("unshare time namespace"))?;
        let guard = Self(Some(own));
        let lines = linux
            .time_offsets
            .iter()
            .map(|(clock, by)| format!("{clock} {} {}\n", by.secs, by.nanosecs));
        let lines: String = lines.collect();
        if !lines.is_empty() {
            std::fs::write("/proc/self/timens_offsets", lines)
                .map_err(during("write /proc/self/timens_offsets"))?;
        }
        Ok(guard)
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            let _ = cais_sys::process::join(own.as_fd(), namespace::TIME);
        }
    }
}
