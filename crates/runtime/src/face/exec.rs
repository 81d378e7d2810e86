//! `exec`: one more process in a running container.

use std::os::fd::AsFd as _;

use super::arguments::{Arguments, Flag, Order};
use super::foreground::{self, Foreground};
use super::store::Container;
use super::{Context, FaceError, Result, console, create, io, said};
use crate::container::{ExecRequest, Stdio, exec, namespace_bit};
use crate::seccomp;
use crate::spec::{LinuxCapabilities, Process, Spec, Status};

const FLAGS: &[Flag] = &[
    Flag(&["process", "p"], true),
    Flag(&["tty", "t"], false),
    Flag(&["detach", "d"], false),
    Flag(&["pid-file"], true),
    Flag(&["cwd"], true),
    Flag(&["env", "e"], true),
    Flag(&["user", "u"], true),
    Flag(&["additional-gids", "g"], true),
    Flag(&["cap", "c"], true),
    Flag(&["no-new-privs"], false),
    Flag(&["apparmor"], true),
    Flag(&["process-label"], true),
    Flag(&["console-socket"], true),
    Flag(&["pidfd-socket"], true),
    Flag(&["preserve-fds"], true),
    Flag(&["ignore-paused"], false),
    Flag(&["no-subreaper"], false),
    Flag(&["cgroup"], true),
];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::First, words)?;
    super::seal()?;
    run(context, &arguments).map_err(|error| FaceError::Exec(Box::new(error)))
}

fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let Some((id, command)) = arguments.words.split_first() else {
        return said("container id cannot be empty");
    };
    if arguments.value("cgroup").is_some() {
        return said("exec --cgroup is not supported by this runtime");
    }
    let container = context.store.load(id)?;
    let Some(init) = container.init() else {
        return said("cannot exec in a stopped container");
    };
    if !arguments.is_set("ignore-paused") && container.live_status() == Status::Paused {
        return said("cannot exec in a paused container (use --ignore-paused to override)");
    }
    let spec = container.spec()?;
    let process = process(arguments, command, &spec)?;
    let detached = arguments.is_set("detach");
    let console_socket = arguments.value("console-socket");
    create::check_terminal(process.terminal, console_socket, detached)?;
    let signals = match detached {
        true => None,
        false => Some(foreground::block_signals()?),
    };
    let (made, console) = join(arguments, &container, &spec, &process, init.as_fd())?;
    if let Some((socket, console)) = console_socket.zip(console.as_ref()) {
        console::send(socket, console.as_fd())?;
    }
    if let Some(socket) = arguments.value("pidfd-socket") {
        console::send_pidfd(socket, made.pidfd.as_fd())?;
    }
    if let Some(path) = arguments.value("pid-file") {
        console::write_pid_file(path, made.pid)?;
    }
    let Some(signals) = signals else {
        return Ok(0);
    };
    Foreground {
        pidfd: made.pidfd.as_fd(),
        console: console.as_ref().map(|console| console.as_fd()),
        signals: signals.as_fd(),
    }
    .wait()
}

type Joined = (crate::container::Process, Option<std::os::fd::OwnedFd>);

fn join(
    arguments: &Arguments,
    container: &Container,
    spec: &Spec,
    process: &Process,
    init: std::os::fd::BorrowedFd<'_>,
) -> Result<Joined> {
    let linux = spec.linux.as_ref();
    let namespaces = linux
        .iter()
        .flat_map(|linux| &linux.namespaces)
        .fold(0, |bits, one| bits | namespace_bit(one.kind));
    let filter = linux
        .and_then(|linux| linux.seccomp.as_ref())
        .map(seccomp::compile)
        .transpose()
        .map_err(|error| FaceError::Said(format!("seccomp: {error}")))?;
    if filter.as_ref().is_some_and(seccomp::Program::has_listener) {
        return said(
            "exec under a seccomp filter with SCMP_ACT_NOTIFY is not supported by this runtime",
        );
    }
    let joined = exec(ExecRequest {
        init_pidfd: init,
        init_pid: container.record.pid,
        namespaces,
        process,
        stdio: match process.terminal {
            true => Stdio::Terminal,
            false => Stdio::Inherit,
        },
        cgroup: &container.cgroup()?,
        filter,
        personality: linux.and_then(|linux| linux.personality.as_ref()),
        preserve_fds: arguments.number("preserve-fds")?.unwrap_or(0),
        die_with_parent: false,
    });
    joined.map_err(|error| FaceError::Said(format!("unable to start container process: {error}")))
}

/// The process of a file, or the container's with what the flags say.
fn process(arguments: &Arguments, command: &[String], spec: &Spec) -> Result<Process> {
    if let Some(path) = arguments.value("process") {
        let text = std::fs::read(path).map_err(io(path))?;
        let process = serde_json::from_slice(&text).map_err(std::io::Error::from);
        return process.map_err(io(path));
    }
    if command.is_empty() {
        return said("process args cannot be empty");
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = arguments.is_set("tty");
    process.console_size = None;
    if let Some(cwd) = arguments.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    process
        .env
        .extend(arguments.values("env").map(str::to_owned));
    if arguments.is_set("no-new-privs") {
        process.no_new_privileges = true;
    }
    let labels = [
        ("apparmor", &mut process.apparmor_profile),
        ("process-label", &mut process.selinux_label),
    ];
    for (flag, label) in labels {
        if let Some(value) = arguments.value(flag) {
            *label = Some(value.to_owned());
        }
    }
    identity(arguments, &mut process)?;
    Ok(process)
}

fn identity(arguments: &Arguments, process: &mut Process) -> Result<()> {
    let number = |text: &str, what: &str| {
        text.parse::<u32>()
            .map_err(|_| FaceError::Said(format!("parsing {text:?} as int for {what} failed")))
    };
    if let Some(user) = arguments.value("user") {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        process.user.uid = number(uid, "uid")?;
        if !gid.is_empty() {
            process.user.gid = number(gid, "gid")?;
        }
    }
    for gid in arguments.values("additional-gids") {
        process.user.additional_gids.push(number(gid, "gid")?);
    }
    for name in arguments.values("cap") {
        let sets = process
            .capabilities
            .get_or_insert_with(LinuxCapabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push(name.to_owned());
        }
    }
    Ok(())
}
