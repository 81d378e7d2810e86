//! `create` and `run`: a container from a bundle.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use cais_sys::socket::listen_packets;

use super::arguments::{Arguments, Flag, Order};
use super::foreground::{self, Foreground};
use super::store::{Container, Record, starter};
use super::{Context, FaceError, Result, console, delete, io, said, start};
use crate::container::{self, Class, CreateRequest, Created, Rootfs, RuntimeError, Stdio};
use crate::spec::Spec;
use crate::timestamp::Timestamp;

const FLAGS: &[Flag] = &[
    Flag(&["bundle", "b"], true),
    Flag(&["console-socket"], true),
    Flag(&["pidfd-socket"], true),
    Flag(&["pid-file"], true),
    Flag(&["no-pivot"], false),
    Flag(&["no-new-keyring"], false),
    Flag(&["preserve-fds"], true),
    Flag(&["detach", "d"], false),
    Flag(&["keep"], false),
    Flag(&["no-subreaper"], false),
];

pub fn create(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = parse(words)?;
    super::seal()?;
    let made = Bundle::read(context, &arguments)
        .and_then(|bundle| make(context, &arguments, &bundle, true));
    match made {
        Ok(_) => Ok(0),
        Err(error) => said(format!("runc create failed: {error}")),
    }
}

pub fn run(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = parse(words)?;
    super::seal()?;
    let failed = |error: FaceError| FaceError::Said(format!("runc run failed: {error}"));
    let bundle = Bundle::read(context, &arguments).map_err(failed)?;
    let signals = match arguments.is_set("detach") {
        true => None,
        false => Some(foreground::block_signals()?),
    };
    let made = make(context, &arguments, &bundle, false).map_err(failed)?;
    let Some(signals) = signals else {
        return Ok(0);
    };
    let ended = Foreground {
        pidfd: made.process.pidfd.as_fd(),
        console: made.console.as_ref().map(|console| console.as_fd()),
        signals: signals.as_fd(),
    }
    .wait();
    if !arguments.is_set("keep") {
        delete::remove(context, &made.container, &bundle.spec)?;
    }
    ended
}

fn parse(words: &[String]) -> Result<Arguments> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    arguments.id()?;
    if arguments.is_set("no-pivot") {
        return said("--no-pivot is not supported by this runtime");
    }
    Ok(arguments)
}

/// What is to become a container.
struct Bundle {
    directory: PathBuf,
    config: Vec<u8>,
    spec: Spec,
}

impl Bundle {
    fn read(context: &Context, arguments: &Arguments) -> Result<Self> {
        let directory = Path::new(arguments.value("bundle").unwrap_or("."));
        let directory = std::fs::canonicalize(directory).map_err(io(directory.display()))?;
        let path = directory.join("config.json");
        let config = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                FaceError::Said("JSON specification file config.json not found".to_owned())
            }
            _ => io(path.display())(error),
        })?;
        let mut spec: Spec = serde_json::from_slice(&config)
            .map_err(std::io::Error::from)
            .map_err(io("config.json"))?;
        if spec.root.is_none() {
            return said("root must be specified");
        }
        if let Some(linux) = &mut spec.linux
            && let Some(path) = &mut linux.cgroups_path
            && (context.systemd_cgroup || path.matches(':').count() == 2)
        {
            *path = systemd_path(path)?;
        }
        pass_sockets(&mut spec);
        Ok(Self {
            directory,
            config,
            spec,
        })
    }

    fn terminal(&self) -> bool {
        let process = self.spec.process.as_ref();
        process.is_some_and(|process| process.terminal)
    }

    fn rootfs(&self) -> PathBuf {
        let root = self.spec.root.as_ref().map(|root| root.path.as_path());
        self.directory.join(root.unwrap_or(Path::new("rootfs")))
    }
}

/// Sockets that systemd passes to us are the program's (sd_listen_fds(3)).
fn pass_sockets(spec: &mut Spec) {
    if let Some(process) = &mut spec.process
        && let Some(count) = listen_fds()
    {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".to_owned());
    }
}

fn listen_fds() -> Option<u32> {
    let count = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
    (count > 0).then_some(count)
}

/// `slice:prefix:name` as the path that systemd would give it; no systemd takes part.
fn systemd_path(path: &str) -> Result<String> {
    let parts: Vec<_> = path.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        return said(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        ));
    };
    let slice = if slice.is_empty() {
        "system.slice"
    } else {
        slice
    };
    let mut whole = String::new();
    if slice != "-.slice" {
        let stem = slice.strip_suffix(".slice").unwrap_or(slice);
        for (index, _) in stem.match_indices('-') {
            whole.push_str(&format!("/{}.slice", &stem[..index]));
        }
        whole.push_str(&format!("/{stem}.slice"));
    }
    Ok(match name.ends_with(".slice") {
        true => format!("{whole}/{name}"),
        false if prefix.is_empty() => format!("{whole}/{name}.scope"),
        false => format!("{whole}/{prefix}-{name}.scope"),
    })
}

/// A container that was made.
struct Made {
    process: container::Process,
    console: Option<OwnedFd>,
    container: Container,
}

/// Makes a container; init waits for a later start, or executes at once.
fn make(context: &Context, arguments: &Arguments, bundle: &Bundle, later: bool) -> Result<Made> {
    let detached = later || arguments.is_set("detach");
    check_terminal(
        bundle.terminal(),
        arguments.value("console-socket"),
        detached,
    )?;
    let directory = context.store.claim(arguments.id()?)?;
    make_in(&directory, arguments, bundle, later).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&directory);
    })
}

fn make_in(directory: &Path, arguments: &Arguments, bundle: &Bundle, later: bool) -> Result<Made> {
    let listener = match later {
        true => Some(listen_packets(&starter(directory), 0o600).map_err(io("start socket"))?),
        false => None,
    };
    let preserved: u32 = arguments.number("preserve-fds")?.unwrap_or(0);
    let created = container::create(CreateRequest {
        id: arguments.id()?,
        spec: &bundle.spec,
        bundle: &bundle.directory,
        rootfs: Rootfs::Directory(bundle.rootfs()),
        stdio: match bundle.terminal() {
            true => Stdio::Terminal,
            false => Stdio::Inherit,
        },
        netns: None,
        preserve_fds: preserved + listen_fds().unwrap_or(0),
        no_new_keyring: arguments.is_set("no-new-keyring"),
        die_with_parent: false,
        starter: listener,
        empty_mounts: None,
    })
    .map_err(explain)?;
    let cgroup = created.cgroup.path();
    let record = record(arguments.id()?, bundle, &created.process, cgroup);
    let saved = Container::save(directory.to_owned(), record, &bundle.config)
        .and_then(|container| tell(arguments, &created).map(|()| container));
    let container = match saved {
        Ok(container) => container,
        Err(error) => {
            created.abandon();
            return Err(error);
        }
    };
    let hand_over = arguments.value("console-socket").is_some();
    let (process, mut console) = if later {
        let (process, console, _) = created.leave();
        (process, console)
    } else {
        let (process, console, _) = start_now(created, bundle, &container)?;
        (process, console)
    };
    if hand_over {
        console = None;
    }
    Ok(Made {
        process,
        console,
        container,
    })
}

type Started = (container::Process, Option<OwnedFd>, crate::cgroups::Cgroup);

fn start_now(created: Created, bundle: &Bundle, container: &Container) -> Result<Started> {
    let started = created.start().map_err(explain).inspect_err(|_| {
        super::kill::all(container);
        if let Ok(cgroup) = container.cgroup() {
            let _ = cgroup.remove();
        }
    })?;
    start::after(container, &bundle.spec).inspect_err(|_| {
        let _ = cais_sys::pidfd::wait(started.0.pidfd.as_fd());
        let _ = started.2.remove();
    })?;
    Ok(started)
}

/// Gives out what the flags ask for.
fn tell(arguments: &Arguments, created: &Created) -> Result<()> {
    if let Some((socket, console)) = arguments
        .value("console-socket")
        .zip(created.console.as_ref())
    {
        console::send(socket, console.as_fd())?;
    }
    if let Some(socket) = arguments.value("pidfd-socket") {
        console::send_pidfd(socket, created.process.pidfd.as_fd())?;
    }
    match arguments.value("pid-file") {
        Some(path) => console::write_pid_file(path, created.process.pid),
        None => Ok(()),
    }
}

fn record(id: &str, bundle: &Bundle, process: &container::Process, cgroup: String) -> Record {
    let mut created = Vec::new();
    Timestamp::now().push_rfc3339_nano(&mut created);
    Record {
        oci_version: crate::spec::VERSION.to_owned(),
        id: id.to_owned(),
        pid: process.pid,
        start_time: process.start_time,
        bundle: bundle.directory.clone(),
        rootfs: bundle.rootfs(),
        created: String::from_utf8_lossy(&created).into_owned(),
        cgroup,
        annotations: bundle.spec.annotations.clone(),
    }
}

/// A failure of init in the words that callers look for.
fn explain(error: RuntimeError) -> FaceError {
    let during = match error.class {
        Class::CommandNotFound | Class::CommandNotExecutable => "",
        Class::Invalid | Class::Internal => "error during container init: ",
    };
    FaceError::Said(format!(
        "unable to start container process: {during}{error}"
    ))
}

/// A terminal needs somebody who holds its other end.
pub fn check_terminal(terminal: bool, console_socket: Option<&str>, detached: bool) -> Result<()> {
    if terminal && detached && console_socket.is_none() {
        return said("cannot allocate tty if runc will detach without setting console socket");
    }
    if console_socket.is_some() && !(terminal && detached) {
        return said("cannot use console socket if runc will not detach or allocate tty");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::systemd_path;

    #[test]
    fn paths_for_systemd_become_paths() {
        for (text, path) in [
            (":docker:abc", "/system.slice/docker-abc.scope"),
            (
                "machine-libpod.slice:libpod:abc",
                "/machine.slice/machine-libpod.slice/libpod-abc.scope",
            ),
            ("-.slice::abc", "/abc.scope"),
            ("user.slice:x:y.slice", "/user.slice/y.slice"),
        ] {
            assert_eq!(systemd_path(text).unwrap(), path);
        }
        assert!(systemd_path("/docker/abc").is_err());
    }
}
