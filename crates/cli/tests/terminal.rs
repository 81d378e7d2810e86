//! A terminal: raw mode while a command runs, its size sent, detach keys, and the old mode back afterwards.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::fake::{Fake, Request, answer, cli, upgrade};

/// Both ends of a terminal of 30 lines and 100 columns.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let size = Winsize {
        ws_row: 30,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(master), slave)
}

fn is_raw(terminal: &File) -> bool {
    !tcgetattr(terminal)
        .unwrap()
        .local_modes
        .intersects(LocalModes::ICANON | LocalModes::ECHO)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn spawn(fake: &Fake, slave: &File, args: &[&str]) -> Child {
    let end = || Stdio::from(slave.try_clone().unwrap());
    cli(args)
        .env("DOCKER_HOST", fake.host())
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap()
}

/// An exec that ends when it has read an interrupt key.
fn exec_server(request: &Request, stream: &mut UnixStream) {
    if request.line.ends_with("/exec") {
        answer(stream, "201 Created", r#"{"Id":"e1"}"#);
    } else if request.line.ends_with("/start") {
        upgrade(stream, "application/vnd.docker.raw-stream");
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 && byte[0] != 3 {}
        // A client that detached is gone.
        drop(stream.write_all(b"bye\r\n"));
        drop(stream.shutdown(std::net::Shutdown::Both));
    } else {
        answer(stream, "200 OK", r#"{"ID":"e1","ExitCode":5}"#);
    }
}

#[test]
fn keys_pass_through_in_raw_mode_which_is_undone() {
    let fake = Fake::start(exec_server);
    let (mut master, slave) = terminal();
    let mut child = spawn(&fake, &slave, &["exec", "-it", "c", "sh"]);
    wait_until("raw mode", || is_raw(&slave));
    master.write_all(b"x\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(!is_raw(&slave), "the terminal stayed raw");
    let mut output = [0; 64];
    let read = master.read(&mut output).unwrap();
    assert_eq!(&output[..read], b"bye\r\n");
    let requests = fake.requests();
    assert!(
        requests[0].body.contains("\"ConsoleSize\":[30,100]"),
        "{}",
        requests[0].body
    );
    let resized = requests
        .iter()
        .any(|request| request.line.ends_with("/exec/e1/resize?h=30&w=100"));
    assert!(resized, "{requests:?}");
}

#[test]
fn detach_keys_let_go() {
    let fake = Fake::start(exec_server);
    let (mut master, slave) = terminal();
    let mut child = spawn(
        &fake,
        &slave,
        &["exec", "-it", "--detach-keys", "ctrl-a,x", "c", "sh"],
    );
    wait_until("raw mode", || is_raw(&slave));
    master.write_all(b"\x01x").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!is_raw(&slave), "the terminal stayed raw");
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let fake = Fake::start(exec_server);
    let (_master, slave) = terminal();
    let mut child = spawn(&fake, &slave, &["exec", "-it", "c", "sh"]);
    wait_until("raw mode", || is_raw(&slave));
    // Handlers are in place before the size is sent.
    wait_until("resize", || {
        fake.requests()
            .iter()
            .any(|request| request.line.contains("/resize"))
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert!(!is_raw(&slave), "the terminal stayed raw");
}
