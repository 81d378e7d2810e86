//! A monitor as a process of its own: this test binary again, started as the engine starts it, with a shell in the place of
//! a container.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use cais_monitor::protocol::{
    Answer, Client, Envelope, Failure, FailureClass, Launch, Log, Message, ProcessIdentity,
    Request, Rootfs, Stdio,
};
use cais_monitor::runner::{ProcessStdio, Runner, Running, Started};
use cais_monitor::{Launched, exit, launch, serve, wire};
use cais_runtime::spec;
use cais_types::Framing;

const MONITOR: &str = "the_monitor_process";

/// Runs the first argument of the specification as a script.
struct Shell(String, Option<ProcessStdio>);

impl Runner for Shell {
    fn create(&mut self, stdio: ProcessStdio, _: Option<OwnedFd>) -> Result<(), Failure> {
        self.1 = Some(stdio);
        Ok(())
    }

    fn start(&mut self) -> Result<Started, Failure> {
        let Some(ProcessStdio::Descriptors {
            stdin,
            stdout,
            stderr,
        }) = self.1.take()
        else {
            return Err(Failure::new(FailureClass::Invalid, "no terminal here"));
        };
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(&self.0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let pid = i32::try_from(command.spawn()?.id()).unwrap();
        let start_time = cais_sys::pidfd::start_time(pid)?;
        let running = Running {
            identity: ProcessIdentity { pid, start_time },
            pidfd: cais_sys::pidfd::open(pid)?,
        };
        Ok(Started {
            running,
            console: None,
        })
    }

    fn exec(&mut self, _: &spec::Process, _: ProcessStdio) -> Result<Started, Failure> {
        Err(Failure::new(
            FailureClass::NotRunning,
            "nothing is added here",
        ))
    }

    fn kill_rest(&mut self) {}

    fn oom_killed(&self) -> bool {
        false
    }

    fn remove(&mut self) {}
}

/// Not a test of its own: what the other tests start.
#[test]
#[expect(clippy::exit, reason = "this process is a monitor, not a test run")]
fn the_monitor_process() {
    if std::env::args()
        .next()
        .is_some_and(|name| name == "cais-monitor")
    {
        let shell =
            |launch: Launch, _| Ok(Shell(launch.spec.process.unwrap().args[0].clone(), None));
        std::process::exit(serve(shell));
    }
}

struct Engine {
    socket: OwnedFd,
    sequence: u64,
}

impl Engine {
    fn ask(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Answer {
        self.sequence += 1;
        let envelope = Envelope {
            sequence: self.sequence,
            request,
        };
        wire::send(&self.socket, &envelope, descriptors).unwrap();
        match self.next() {
            Message::Reply { sequence, result } if sequence == self.sequence => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn next(&self) -> Message {
        wire::receive(&self.socket).unwrap().0
    }
}

fn start_monitor(directory: &Path, script: &str) -> (Launched, Engine) {
    let binary = File::open("/proc/self/exe").unwrap();
    let launchpad = cais_sys::launch::Launchpad::new().unwrap();
    let mut launched = launch(&launchpad, binary.as_fd(), MONITOR).unwrap();
    let process = spec::Process {
        args: vec![script.to_owned()],
        ..spec::Process::default()
    };
    let message = Launch {
        id: "0".repeat(64),
        directory: directory.to_owned(),
        socket: directory.join("control"),
        spec: spec::Spec {
            process: Some(process),
            ..spec::Spec::default()
        },
        rootfs: Rootfs::Directory(directory.to_owned()),
        log: Log::JsonFile {
            path: directory.join("json.log"),
            max_size: 0,
            max_files: 1,
            attributes: BTreeMap::new(),
        },
        stdio: Stdio {
            terminal: false,
            stdin: true,
            stdin_once: false,
        },
    };
    wire::send(&launched.socket, &message, &[]).unwrap();
    let (unused, _) = UnixStream::pair().unwrap();
    let socket = std::mem::replace(&mut launched.socket, unused.into());
    (
        launched,
        Engine {
            socket,
            sequence: 0,
        },
    )
}

fn client() -> Client {
    Client {
        framing: Framing::Raw,
        stdin: true,
        stdout: true,
        stderr: true,
        detach_keys: Vec::new(),
        unread: Vec::new(),
    }
}

#[test]
fn a_container_outlives_its_engine_and_signals_to_its_monitor() {
    let directory = tempfile::tempdir().unwrap();
    let script = "echo first; read line; echo $line; exit 6";
    let (launched, mut engine) = start_monitor(directory.path(), script);
    let (mut near, far) = UnixStream::pair().unwrap();
    engine.ask(Request::Attach(client()), &[far.as_fd()]);
    drop(far);
    engine.ask(Request::Create { netns: false }, &[]);
    let Answer::Process(identity) = engine.ask(Request::Start, &[]) else {
        panic!("no process");
    };
    drop(engine);
    for signal in [1, 2, 15] {
        cais_sys::pidfd::send_signal(launched.pidfd.as_fd(), signal).unwrap();
    }
    let mut first = [0; 6];
    near.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first\n");
    let socket = cais_sys::socket::connect(&directory.path().join("control")).unwrap();
    let mut engine = Engine {
        socket,
        sequence: 100,
    };
    let Answer::Status(status) = engine.ask(Request::Status, &[]) else {
        panic!("no status")
    };
    assert_eq!(status.init, Some(identity));
    near.write_all(b"second\n").unwrap();
    let mut rest = String::new();
    near.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "second\n");
    let Message::Exited(told) = engine.next() else {
        panic!("no exit")
    };
    assert_eq!(told.code, 6);
    assert_eq!(exit::read(directory.path()).unwrap(), Some(told));
    let end = cais_sys::pidfd::wait(launched.pidfd.as_fd()).unwrap();
    assert_eq!(end, cais_sys::pidfd::Exit::Code(0));
}

#[test]
fn an_engine_that_vanishes_before_the_start_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (launched, engine) = start_monitor(directory.path(), "exit 0");
    drop(engine);
    let end = cais_sys::pidfd::wait(launched.pidfd.as_fd()).unwrap();
    assert_eq!(end, cais_sys::pidfd::Exit::Code(1));
    assert!(!directory.path().join("control").exists());
    assert!(!directory.path().join("exit.json").exists());
}
