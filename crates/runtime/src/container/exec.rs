//! One more process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cais_sys::process::namespace;
use rustix::fs::{Mode, OFlags};

use super::check;
use super::finish::{self, Final};
use super::init::HostFiles;
use super::namespaces::ChildrenIn;
use super::report::{Channel, Class, Result, RuntimeError, during};
use super::{Process, Stdio};
use crate::cgroups::Cgroup;
use crate::seccomp;
use crate::spec::{self, LinuxPersonality};

/// What is to be run where.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Init of the container.
    pub init_pidfd: std::os::fd::BorrowedFd<'a>,
    /// Host number of init; only used to find its namespaces, and checked against the pidfd.
    pub init_pid: i32,
    /// Bits of the namespaces that the container does not share with the caller.
    pub namespaces: u64,
    pub process: &'a spec::Process,
    pub stdio: Stdio,
    pub cgroup: &'a Cgroup,
    pub filter: Option<seccomp::Program>,
    pub personality: Option<&'a LinuxPersonality>,
    pub preserve_fds: u32,
    pub die_with_parent: bool,
}

/// Runs a process in the container; answers it and the controller of its terminal.
///
/// # Errors
/// The step that failed and why; what the kernel says of the program.
pub fn exec(request: ExecRequest<'_>) -> Result<(Process, Option<OwnedFd>)> {
    if request.process.args.is_empty() {
        return Err(RuntimeError::invalid("process.args must not be empty"));
    }
    check::process(request.process)?;
    let (ours, theirs) = Channel::pair().map_err(during("socketpair"))?;
    let (cgroup, init_pidfd) = (request.cgroup, request.init_pidfd);
    let pid_namespace = match request.namespaces & namespace::PID {
        0 => None,
        _ => Some(init_file(&request, "ns/pid")?),
    };
    let below = cgroup
        .directory_below_for_clone()
        .map_err(super::report::cgroup)?;
    let mut ours = Some(ours);
    let child = {
        let _children = ChildrenIn::namespace(pid_namespace.as_ref())?;
        let group = below.as_ref().map(AsFd::as_fd);
        cais_sys::process::copy(0, group.or(cgroup.directory_for_clone()), || {
            drop(ours.take());
            main(request, &theirs)
        })
        .map_err(during("clone"))?
    };
    let Some(ours) = ours else {
        return Err(RuntimeError::new(Class::Internal, "clone"));
    };
    drop(theirs);
    let started = (|| {
        let console = ours.wait_ready()?;
        let _ = ours.go();
        ours.wait_executed()?;
        Ok(console)
    })();
    match started {
        Ok(console) => {
            // It may have ended already; then it is a zombie of ours, which still has its times.
            let start_time =
                cais_sys::pidfd::start_time(child.pid).map_err(during("read /proc/<pid>/stat"))?;
            Ok((
                Process {
                    pid: child.pid,
                    pidfd: child.pidfd,
                    start_time,
                },
                console,
            ))
        }
        Err(error) => {
            let _ = cais_sys::pidfd::send_signal(child.pidfd.as_fd(), 9);
            let _ = cais_sys::pidfd::wait(child.pidfd.as_fd());
            if cais_sys::pidfd::is_alive(init_pidfd).is_ok_and(|alive| !alive) {
                return Err(RuntimeError::invalid("cannot exec in a stopped container"));
            }
            Err(error)
        }
    }
}

/// Opens a file of init's directory in `/proc`, and makes sure that it is still init's.
fn init_file(request: &ExecRequest<'_>, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/{name}", request.init_pid);
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(during(&path))?;
    if cais_sys::pidfd::is_alive(request.init_pidfd).is_ok_and(|alive| alive) {
        return Ok(file);
    }
    Err(RuntimeError::invalid("cannot exec in a stopped container"))
}

fn main(request: ExecRequest<'_>, channel: &Channel) -> i32 {
    let _ = cais_sys::process::set_dumpable(false);
    match run(request, channel) {
        Ok(code) => code,
        Err(error) => {
            channel.failed(&error);
            1
        }
    }
}

fn run(request: ExecRequest<'_>, channel: &Channel) -> Result<i32> {
    let _ = rustix::process::setsid();
    let affinity = request.process.exec_cpu_affinity.as_ref();
    finish::set_affinity(affinity.and_then(|wanted| wanted.initial.as_deref()))?;
    request.cgroup.join().map_err(super::report::cgroup)?;
    finish::set_affinity(affinity.and_then(|wanted| wanted.last.as_deref()))?;
    let host = HostFiles::open()?;
    let mut kept = vec![channel.as_fd(), request.init_pidfd, host.own.as_fd()];
    kept.extend(request.stdio.descriptors());
    // A process of the container may look into this one as soon as it has joined (CVE-2016-9962).
    cais_sys::inherit::close_others(request.preserve_fds, &kept).map_err(during("close_range"))?;
    // Children of the caller are in the pid namespace already.
    let join = request.namespaces & !namespace::PID;
    cais_sys::process::join(request.init_pidfd, join).map_err(during("join namespaces"))?;
    let mut may_set_groups = true;
    if request.namespaces & namespace::USER != 0 {
        cais_sys::process::set_ids(0, 0, None)
            .map_err(during("become root of the user namespace"))?;
        may_set_groups = std::fs::read_to_string("/proc/self/setgroups")
            .is_ok_and(|text| text.trim() == "allow");
    }
    let terminal = match request.process.terminal {
        false => None,
        true => Some(terminal(request.process)?),
    };
    let controller = finish::connect(request.stdio, terminal)?;
    let last = Final {
        process: request.process,
        filter: request.filter,
        listener: None,
        memory_policy: None,
        die_with_parent: request.die_with_parent,
        preserve_fds: request.preserve_fds,
        host,
        personality: request.personality,
        may_set_groups,
    };
    let program = last.become_user()?;
    channel
        .ready(controller.as_ref().map(AsFd::as_fd))
        .map_err(during("report"))?;
    drop(controller);
    if !channel.wait_go() {
        return Err(RuntimeError::invalid("the maker has gone"));
    }
    last.execute(&program)
}

/// A terminal of the container's devpts; the peer is opened through the controller, so that no path of the container is followed
/// (CVE-2025-52565).
fn terminal(process: &spec::Process) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pts = rustix::fs::open(Path::new("/dev/pts"), flags, Mode::empty())
        .map_err(during("open /dev/pts"))?;
    let (controller, terminal) =
        cais_sys::pty::open_in(pts.as_fd()).map_err(during("open terminal"))?;
    if let Some(size) = process.console_size {
        cais_sys::pty::set_size(controller.as_fd(), size.height, size.width)
            .map_err(during("terminal size"))?;
    }
    Ok((controller, terminal))
}
