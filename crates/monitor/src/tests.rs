//! The monitor's loop with plain processes in the place of containers: streams, clients, execs, connections and the end.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use cais_types::Framing;

use super::control::Connection;
use super::json_file::LogWriter;
use super::protocol::{
    Answer, Client, Envelope, Exit, Failure, FailureClass, Message, ProcessIdentity, Request,
};
use super::runner::{ProcessStdio, Runner, Running, Started, StdioPlan};
use super::session::Session;
use super::supervisor::{Places, Supervisor};
use super::{exit, wire};
use cais_runtime::spec;

/// Runs shell scripts as children of the test.
struct Shell {
    script: &'static str,
    stdio: Option<ProcessStdio>,
}

impl Shell {
    fn spawn(script: &str, stdio: ProcessStdio) -> Result<Started, Failure> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let console = match stdio {
            ProcessStdio::Descriptors {
                stdin,
                stdout,
                stderr,
            } => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            ProcessStdio::Terminal => {
                let (controller, terminal) = cais_sys::pty::open()?;
                let copy = || terminal.try_clone().unwrap();
                command.stdin(copy()).stdout(copy()).stderr(copy());
                Some(controller)
            }
        };
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity {
            pid,
            start_time: cais_sys::pidfd::start_time(pid)?,
        };
        let running = Running {
            identity,
            pidfd: cais_sys::pidfd::open(pid)?,
        };
        Ok(Started { running, console })
    }
}

impl Runner for Shell {
    fn create(&mut self, stdio: ProcessStdio, _: Option<OwnedFd>) -> Result<(), Failure> {
        self.stdio = Some(stdio);
        Ok(())
    }

    fn start(&mut self) -> Result<Started, Failure> {
        let stdio = self.stdio.take();
        let stdio = stdio.filter(|_| !self.script.is_empty());
        let missing = || Failure::new(FailureClass::CommandNotFound, "no script");
        Self::spawn(self.script, stdio.ok_or_else(missing)?)
    }

    fn exec(&mut self, process: &spec::Process, stdio: ProcessStdio) -> Result<Started, Failure> {
        Self::spawn(&process.args[0], stdio)
    }

    fn kill_rest(&mut self) {}

    fn oom_killed(&self) -> bool {
        false
    }

    fn remove(&mut self) {}
}

/// A monitor in a thread, and the engine's side of it.
struct Harness {
    directory: tempfile::TempDir,
    engine: UnixStream,
    monitor: JoinHandle<i32>,
    sequence: u64,
    news: Vec<Message>,
}

impl Harness {
    fn new(script: &'static str, plan: StdioPlan, stdin_once: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (engine, far) = UnixStream::pair().unwrap();
        let places = Places {
            directory: directory.path().to_owned(),
            socket: directory.path().join("control"),
        };
        let listener = cais_sys::socket::listen(&places.socket, 0o600).unwrap();
        let log = LogWriter::open(directory.path().join("log"), 0, 1, &BTreeMap::new());
        let monitor = std::thread::spawn(move || {
            let init = Session::new(None, plan, stdin_once, Some(log));
            let launcher = Connection::new(far.into());
            Supervisor::new(
                Shell {
                    script,
                    stdio: None,
                },
                places,
                listener,
                launcher,
                init,
            )
            .run()
        });
        Self {
            directory,
            engine,
            monitor,
            sequence: 0,
            news: Vec::new(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ask(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer, Failure> {
        self.sequence += 1;
        let envelope = Envelope {
            sequence: self.sequence,
            request,
        };
        wire::send(&self.engine, &envelope, descriptors).unwrap();
        loop {
            match wire::receive(&self.engine).unwrap().0 {
                Message::Reply { sequence, result } => {
                    assert_eq!(sequence, self.sequence);
                    return result;
                }
                other => self.news.push(other),
            }
        }
    }

    fn start(&mut self) -> ProcessIdentity {
        self.ask(Request::Create { netns: false }, &[]).unwrap();
        match self.ask(Request::Start, &[]).unwrap() {
            Answer::Process(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    fn attach(&mut self, client: Client) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        self.ask(Request::Attach(client), &[far.as_fd()]).unwrap();
        near
    }

    fn exec(&mut self, id: &str, script: &str, client: Option<Client>) -> Option<UnixStream> {
        let (near, far) = UnixStream::pair().unwrap();
        let attached = client.is_some();
        let request = Request::Exec {
            exec_id: id.to_owned(),
            process: Box::new(spec::Process {
                args: vec![script.to_owned()],
                ..spec::Process::default()
            }),
            stdin: client.as_ref().is_some_and(|client| client.stdin),
            client,
        };
        let descriptors = [far.as_fd()];
        self.ask(request, if attached { &descriptors } else { &[] })
            .unwrap();
        attached.then_some(near)
    }

    fn next_news(&mut self) -> Message {
        if self.news.is_empty() {
            return wire::receive(&self.engine).unwrap().0;
        }
        self.news.remove(0)
    }

    fn wait_exec(&mut self, id: &str) -> i32 {
        loop {
            if let Message::ExecExited { exec_id, code } = self.next_news()
                && exec_id == id
            {
                return code;
            }
        }
    }

    /// Waits for the end; the record on disk must be what was told, and the monitor must end.
    fn end(mut self) -> (Exit, String) {
        let told = loop {
            if let Message::Exited(told) = self.next_news() {
                break told;
            }
        };
        assert_eq!(exit::read(self.path()).unwrap().unwrap(), told);
        assert!(!self.path().join("control").exists());
        assert_eq!(self.monitor.join().unwrap(), 0);
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        let text = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["log"].as_str().unwrap().to_owned())
            .collect();
        (told, text)
    }
}

fn client(framing: Framing, stdin: bool) -> Client {
    Client {
        framing,
        stdin,
        stdout: true,
        stderr: true,
        detach_keys: Vec::new(),
        unread: Vec::new(),
    }
}

const OUTPUT: StdioPlan = StdioPlan {
    terminal: false,
    input: false,
    output: true,
};
const PIPES: StdioPlan = StdioPlan {
    terminal: false,
    input: true,
    output: true,
};
const TERMINAL: StdioPlan = StdioPlan {
    terminal: true,
    input: true,
    output: true,
};

fn read_all(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn output_reaches_log_and_clients_and_the_code_is_recorded() {
    let mut harness = Harness::new("echo out; echo err >&2; exit 7", OUTPUT, false);
    let both = harness.attach(client(Framing::Multiplexed, false));
    let only_err = harness.attach(Client {
        stdout: false,
        ..client(Framing::Raw, false)
    });
    harness.start();
    assert_eq!(read_all(only_err), b"err\n");
    let bytes = read_all(both);
    let (out, err) = (b"\x01\0\0\0\0\0\0\x04out\n", b"\x02\0\0\0\0\0\0\x04err\n");
    assert!(bytes == [&out[..], &err[..]].concat() || bytes == [&err[..], &out[..]].concat());
    let (exit, log) = harness.end();
    assert_eq!((exit.code, exit.oom_killed), (7, false));
    assert!(log.contains("out\n") && log.contains("err\n"));
}

#[test]
fn input_of_several_clients_merges_and_the_first_end_closes_it() {
    let mut harness = Harness::new("cat", PIPES, true);
    let request = Client {
        unread: b"early\n".to_vec(),
        ..client(Framing::Raw, true)
    };
    let mut first = harness.attach(request);
    let mut second = harness.attach(client(Framing::Raw, true));
    harness.start();
    let mut line = [0; 6];
    second.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"early\n");
    second.write_all(b"two\n").unwrap();
    second.read_exact(&mut line[..4]).unwrap();
    first.write_all(b"last").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(first), b"early\ntwo\nlast");
    let (exit, log) = harness.end();
    assert_eq!((exit.code, log.as_str()), (0, "early\ntwo\nlast"));
}

#[test]
fn a_client_without_stdin_once_leaves_the_input_open() {
    let mut harness = Harness::new("read line; echo got $line", PIPES, false);
    harness.start();
    let first = harness.attach(client(Framing::Raw, true));
    first.shutdown(Shutdown::Write).unwrap();
    let mut second = harness.attach(client(Framing::Raw, true));
    second.write_all(b"it\n").unwrap();
    assert_eq!(read_all(second), b"got it\n");
    assert_eq!(read_all(first), b"got it\n");
    assert_eq!(harness.end().0.code, 0);
}

#[test]
fn megabytes_pass_to_log_and_slow_client_whole() {
    let mut harness = Harness::new("head -c 20000000 /dev/zero | tr '\\0' 'x'", OUTPUT, false);
    let mut slow = harness.attach(client(Framing::Raw, false));
    let vanished = harness.attach(client(Framing::Raw, false));
    harness.start();
    drop(vanished);
    let mut total = 0;
    let mut piece = vec![0; 100_000];
    loop {
        let count = slow.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        total += count;
        std::thread::yield_now();
    }
    assert_eq!(total, 20_000_000);
    let (exit, log) = harness.end();
    assert_eq!((exit.code, log.len()), (0, 20_000_000));
}

#[test]
fn detach_keys_end_one_client_and_are_told() {
    let mut harness = Harness::new("cat", PIPES, false);
    let keys = Client {
        detach_keys: b"\x10\x11".to_vec(),
        ..client(Framing::Raw, true)
    };
    harness.start();
    let mut first = harness.attach(keys);
    let mut second = harness.attach(client(Framing::Raw, false));
    first.write_all(b"a\n\x10").unwrap();
    let mut echoed = [0; 2];
    for near in [&mut first, &mut second] {
        near.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"a\n");
    }
    first.write_all(b"\x11").unwrap();
    assert!(matches!(
        harness.next_news(),
        Message::Detached { exec_id: None }
    ));
    assert_eq!(read_all(first), b"");
    harness.ask(Request::Kill { signal: 15 }, &[]).unwrap();
    assert_eq!(harness.end().0.code, 143);
}

#[test]
fn a_terminal_is_resized_echoes_and_closes() {
    let mut harness = Harness::new("read x; stty size; echo $x", TERMINAL, false);
    harness
        .ask(
            Request::Resize {
                exec_id: None,
                rows: 30,
                columns: 90,
            },
            &[],
        )
        .unwrap();
    let mut near = harness.attach(client(Framing::Raw, true));
    harness.start();
    near.write_all(b"hi\n").unwrap();
    let text = String::from_utf8(read_all(near)).unwrap();
    assert_eq!(text, "hi\r\n30 90\r\nhi\r\n");
    assert_eq!(harness.end().0.code, 0);
}

#[test]
fn execs_run_at_once_and_their_codes_are_kept() {
    let mut harness = Harness::new("read line", PIPES, false);
    harness.start();
    let mut cat = harness
        .exec("cat", "cat; exit 5", Some(client(Framing::Raw, true)))
        .unwrap();
    assert!(
        harness
            .exec("quiet", "echo nobody hears; exit 3", None)
            .is_none()
    );
    assert_eq!(harness.wait_exec("quiet"), 3);
    cat.write_all(b"through").unwrap();
    cat.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(cat), b"through");
    let Answer::Status(status) = harness.ask(Request::Status, &[]).unwrap() else {
        panic!()
    };
    assert!(
        status.running.is_empty(),
        "a client sees the end only after the code is known"
    );
    assert_eq!(
        status.ended,
        [("quiet".to_owned(), 3), ("cat".to_owned(), 5)]
    );
    harness.exec("long", "exec sleep 100", None);
    let Answer::Status(status) = harness.ask(Request::Status, &[]).unwrap() else {
        panic!()
    };
    let long = status.running[0].1.pid;
    let pidfd = cais_sys::pidfd::open(long).unwrap();
    cais_sys::pidfd::send_signal(pidfd.as_fd(), 9).unwrap();
    assert_eq!(harness.wait_exec("long"), 137);
    harness.ask(Request::Kill { signal: 9 }, &[]).unwrap();
    let (exit, _) = harness.end();
    assert_eq!((exit.code, exit.execs.len()), (137, 3));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_delays_only_the_stream() {
    let mut harness = Harness::new("read line", PIPES, false);
    harness.start();
    let script = "exec 3<&0; (read gate <&3; echo late) & echo soon; exit 4";
    let mut near = harness
        .exec("e", script, Some(client(Framing::Raw, true)))
        .unwrap();
    assert_eq!(harness.wait_exec("e"), 4);
    let mut soon = [0; 5];
    near.read_exact(&mut soon).unwrap();
    assert_eq!(&soon, b"soon\n");
    // The end of the exec closed its input, which lets the grandchild end, and then the stream.
    assert_eq!(read_all(near), b"late\n");
    harness.ask(Request::Kill { signal: 9 }, &[]).unwrap();
    assert_eq!(harness.end().0.code, 137);
}

#[test]
fn an_unread_exec_is_held_up_and_costs_bounded_memory() {
    let mut harness = Harness::new("read line", PIPES, false);
    harness.start();
    let unread = harness.exec("yes", "exec yes", Some(client(Framing::Multiplexed, false)));
    for size in 0..10_000_u16 {
        let exec_id = Some("yes".to_owned());
        harness
            .ask(
                Request::Resize {
                    exec_id,
                    rows: size,
                    columns: size,
                },
                &[],
            )
            .unwrap();
    }
    let pid = match harness.ask(Request::Status, &[]).unwrap() {
        Answer::Status(status) => status.running[0].1.pid,
        other => panic!("{other:?}"),
    };
    // Held up: the process sleeps in write.
    while cais_sys::pidfd::stat(pid).unwrap().0 != b'S' {
        std::thread::yield_now();
    }
    drop(unread);
    let kill = cais_sys::pidfd::open(pid).unwrap();
    cais_sys::pidfd::send_signal(kill.as_fd(), 9).unwrap();
    assert_eq!(harness.wait_exec("yes"), 137);
    harness.ask(Request::Kill { signal: 9 }, &[]).unwrap();
    harness.end();
}

#[test]
fn a_later_engine_finds_the_monitor_by_its_socket() {
    let mut harness = Harness::new("read line; exit 9", PIPES, true);
    let identity = harness.start();
    let socket = harness.path().join("control");
    harness.engine = UnixStream::connect(socket).unwrap();
    let Answer::Status(status) = harness.ask(Request::Status, &[]).unwrap() else {
        panic!()
    };
    assert_eq!(status.init, Some(identity));
    drop(harness.attach(client(Framing::Raw, true)));
    assert_eq!(harness.end().0.code, 9);
}

#[test]
fn a_failed_start_is_told_and_ends_the_monitor() {
    let mut harness = Harness::new("", OUTPUT, false);
    let near = harness.attach(client(Framing::Raw, false));
    harness.ask(Request::Create { netns: false }, &[]).unwrap();
    let failure = harness.ask(Request::Start, &[]).unwrap_err();
    assert_eq!(failure.class, FailureClass::CommandNotFound);
    assert_eq!(read_all(near), b"");
    assert_eq!(harness.monitor.join().unwrap(), 1);
}

#[test]
fn an_engine_that_goes_before_the_start_takes_the_monitor_along() {
    for created in [false, true] {
        let mut harness = Harness::new("exit 0", OUTPUT, false);
        if created {
            harness.ask(Request::Create { netns: false }, &[]).unwrap();
        }
        drop(harness.engine);
        assert_eq!(harness.monitor.join().unwrap(), 1);
        assert!(!harness.directory.path().join("control").exists());
    }
}

#[test]
fn requests_without_their_descriptor_and_kills_before_the_start_are_refused() {
    let mut harness = Harness::new("exit 0", OUTPUT, false);
    let class = |result: Result<Answer, Failure>| result.unwrap_err().class;
    let attach = Request::Attach(client(Framing::Raw, false));
    assert_eq!(class(harness.ask(attach, &[])), FailureClass::Invalid);
    assert_eq!(
        class(harness.ask(Request::Kill { signal: 9 }, &[])),
        FailureClass::NotRunning
    );
    harness.start();
    assert_eq!(harness.end().0.code, 0);
}
