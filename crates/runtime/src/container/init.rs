//! Init's side of a new container: a list of steps from the clone to the execution of the user's program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cais_sys::mntns;
use cais_sys::process::namespace;
use rustix::fs::{Mode, OFlags};

use super::finish::{self, Final};
use super::namespaces::Namespaces;
use super::report::{Channel, Result, RuntimeError, during};
use super::rootfs::Beginning;
use super::{Rootfs, Stdio, devices, hooks, listener, mounts, rootfs};
use crate::cgroups::Cgroup;
use crate::seccomp;
use crate::spec::{Linux, Process, Spec, Status};

/// What init works from.
pub struct Init<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    pub bundle: &'a Path,
    pub rootfs: Rootfs,
    pub stdio: Stdio,
    pub preserve_fds: u32,
    pub new_keyring: bool,
    pub die_with_parent: bool,
    /// User namespaces for mounts, by their index.
    pub id_maps: Vec<(usize, OwnedFd)>,
    /// Where a later process comes to start this one.
    pub starter: Option<OwnedFd>,
    /// Of [`cais_sys::mntns::empty`]; without it the mount namespace is a copy of the host's and there already.
    pub empty_mounts: Option<OwnedFd>,
    pub filter: Option<seccomp::Program>,
    pub namespaces: &'a Namespaces,
    pub cgroup: &'a Cgroup,
}

/// The new process from its first instruction on; answers its exit code when it could not execute.
pub fn main(init: Init<'_>, channel: &Channel) -> i32 {
    // Until the program is executed nobody may look into a process that still holds the host's descriptors.
    let _ = cais_sys::process::set_dumpable(false);
    // The maker maps the ids of a new user namespace first; nothing else has to be waited for.
    if init.namespaces.new & namespace::USER != 0 && !channel.wait_go() {
        return 1;
    }
    let mut starter = None;
    match run(init, channel, &mut starter) {
        Ok(code) => code,
        Err(error) => {
            starter.as_ref().unwrap_or(channel).failed(&error);
            1
        }
    }
}

fn run(mut init: Init<'_>, channel: &Channel, starter: &mut Option<Channel>) -> Result<i32> {
    let Init {
        spec, namespaces, ..
    } = init;
    let linux = spec.linux.clone().unwrap_or_default();
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| RuntimeError::invalid("process is missing"))?;
    let _ = rustix::process::setsid();
    init.cgroup.join().map_err(super::report::cgroup)?;
    namespaces.enter()?;
    if namespaces.all() & namespace::USER != 0 {
        cais_sys::process::set_ids(0, 0, None)
            .map_err(during("become root of the user namespace"))?;
    }
    if namespaces.new & namespace::CGROUP != 0 {
        cais_sys::process::unshare(namespace::CGROUP)
            .map_err(during("unshare cgroup namespace"))?;
    }
    if init.new_keyring {
        // Kernels without keyrings, and filters around us that refuse the call, are no reason to fail.
        let _ = cais_sys::process::join_session_keyring();
    }
    names(spec)?;
    if namespaces.new & namespace::NET != 0 {
        cais_sys::netns::bring_up_loopback().map_err(during("bring up loopback"))?;
    }
    let host = HostFiles::open()?;
    let listener = match &linux.seccomp {
        Some(filter) => listener::connect(init.id, spec, init.bundle, filter)?,
        None => None,
    };
    let may_set_groups = host_allows_groups(namespaces);
    let console = prepare_root(&mut init, &linux, process, channel)?;
    let terminal = finish::connect(init.stdio, console)?;
    settle(spec, &linux, namespaces)?;
    let last = Final {
        process,
        filter: init.filter,
        listener,
        memory_policy: linux.memory_policy.as_ref(),
        die_with_parent: init.die_with_parent,
        preserve_fds: init.preserve_fds,
        host,
        personality: linux.personality.as_ref(),
        may_set_groups,
    };
    let program = last.become_user()?;
    channel
        .ready(terminal.as_ref().map(AsFd::as_fd))
        .map_err(during("report"))?;
    drop(terminal);
    if let Some(listener) = &init.starter {
        let connection =
            cais_sys::socket::accept(listener.as_fd()).map_err(during("wait for the start"))?;
        *starter = Some(Channel::from_fd(connection));
    }
    if !starter.as_ref().unwrap_or(channel).wait_go() {
        return Err(RuntimeError::invalid("the maker has gone"));
    }
    if let Some(hooks) = &spec.hooks {
        let state = hooks::state(init.id, Status::Created, 1, init.bundle, spec);
        hooks::run("startContainer", &hooks.start_container, &state)?;
    }
    last.execute(&program)
}

/// Unprivileged user namespaces deny setgroups(2); ours are made with the rights to allow it, unless the caller has none.
fn host_allows_groups(namespaces: &Namespaces) -> bool {
    namespaces.all() & namespace::USER == 0
        || std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Files of the host's `/proc` that are needed after the root has changed; a container's own `/proc` is never trusted.
#[derive(Debug)]
pub struct HostFiles {
    /// `/proc/self/` of this process.
    pub own: OwnedFd,
}

impl HostFiles {
    /// Opens them.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::open("/proc/thread-self", flags, Mode::empty())
            .or_else(|_| rustix::fs::open("/proc/self", flags, Mode::empty()))
            .map_err(during("open /proc/self"))?;
        Ok(Self { own })
    }

    /// Writes one of this process's own files.
    pub fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        let file = rustix::fs::openat(
            &self.own,
            name,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    }
}

fn names(spec: &Spec) -> Result<()> {
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).map_err(during("sethostname"))?;
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        cais_sys::process::set_domain_name(name).map_err(during("setdomainname"))?;
    }
    Ok(())
}

/// Builds the mount namespace and enters the new root; answers init's terminal.
fn prepare_root(
    init: &mut Init<'_>,
    linux: &Linux,
    process: &Process,
    channel: &Channel,
) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let spec = init.spec;
    let propagation = linux.rootfs_propagation.as_deref();
    let beginning = match init.empty_mounts.take() {
        Some(empty) => Beginning::Empty(empty),
        None => Beginning::Host(rootfs::isolate(propagation)?),
    };
    let namespaces = init.namespaces.all();
    let making = mounts::Making {
        cgroup: init.cgroup,
        own_cgroup_namespace: namespaces & namespace::CGROUP != 0,
        user_namespace: namespaces & namespace::USER != 0,
        propagation: beginning.propagation(propagation),
    };
    let root = rootfs::tree(&init.rootfs, &making)?;
    let made = mounts::make(&making, spec, &init.id_maps)?;
    if let Beginning::Empty(empty) = &beginning {
        mntns::enter_copy(empty.as_fd()).map_err(during("enter empty mount namespace"))?;
    }
    rootfs::attach(root.as_fd())?;
    for mount in made {
        mount.place(root.as_fd(), making.user_namespace)?;
    }
    if devices::are_wanted(&spec.mounts) {
        devices::make(root.as_fd(), linux, making.user_namespace)?;
    }
    let console = match process.terminal {
        true => Some(devices::console(root.as_fd(), process.console_size)?),
        false => None,
    };
    if let Some(hooks) = &spec.hooks {
        if hooks.before_pivot() {
            channel.mounted().map_err(during("report"))?;
            if !channel.wait_go() {
                return Err(RuntimeError::invalid("the maker has gone"));
            }
        }
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let state = hooks::state(init.id, Status::Creating, pid, init.bundle, spec);
        hooks::run("createContainer", &hooks.create_container, &state)?;
    }
    beginning.leave(root.as_fd())?;
    finish::make_directory(&process.cwd);
    Ok(console)
}

/// What is done inside the new root before the rights are given away.
fn settle(spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    rootfs::write_sysctls(linux, namespaces.all())?;
    for path in &linux.readonly_paths {
        rootfs::make_read_only(path)?;
    }
    for path in &linux.masked_paths {
        rootfs::mask(path)?;
    }
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        rootfs::make_root_read_only()?;
    }
    rootfs::set_propagation(linux.rootfs_propagation.as_deref())
}
