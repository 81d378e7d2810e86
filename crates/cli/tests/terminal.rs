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

/// Reads what is shown until a text comes.
fn read_until(master: &mut File, text: &str) -> String {
    let mut shown = String::new();
    let mut piece = [0; 1024];
    while !shown.contains(text) {
        let read = master.read(&mut piece).unwrap();
        shown.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    shown
}

fn echoes(terminal: &File) -> bool {
    tcgetattr(terminal)
        .unwrap()
        .local_modes
        .contains(LocalModes::ECHO)
}

fn login_server(_: &Request, stream: &mut UnixStream) {
    answer(stream, "200 OK", "{\"Status\":\"Login Succeeded\"}");
}

#[test]
fn login_asks_for_what_is_missing_and_hides_the_password() {
    let fake = Fake::start(login_server);
    let (mut master, slave) = terminal();
    let mut command = cli(&["login", "r.example"]);
    let end = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command
        .env("DOCKER_HOST", fake.host())
        .env("DOCKER_CONFIG", fake.config_dir())
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    assert_eq!(read_until(&mut master, "Username: "), "Username: ");
    assert!(echoes(&slave));
    master.write_all(b" me \n").unwrap();
    read_until(&mut master, "Password: ");
    wait_until("echo off", || !echoes(&slave));
    master.write_all(b"secret\n").unwrap();
    let shown = read_until(&mut master, "Login Succeeded");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(echoes(&slave), "echo stayed off");
    let auth = fake.requests().pop().unwrap();
    assert_eq!(
        auth.body,
        "{\"username\":\"me\",\"password\":\"secret\",\"serveraddress\":\"r.example\"}"
    );
}

#[test]
fn leaving_at_the_password_brings_the_echo_back() {
    let fake = Fake::start(login_server);
    let (mut master, slave) = terminal();
    let mut child = spawn(&fake, &slave, &["login", "-u", "me", "r.example"]);
    read_until(&mut master, "Password: ");
    wait_until("echo off", || !echoes(&slave));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 2));
    assert!(echoes(&slave), "echo stayed off");
    assert!(fake.requests().is_empty());
}

#[test]
fn a_refused_pull_asks_for_credentials_of_that_registry() {
    let fake = Fake::start(|request, stream| match request.registry_auth().as_str() {
        "{}" => crate::fake::refuse(stream, "401 Unauthorized", "who are you"),
        _ => answer(stream, "200 OK", "{\"status\":\"got it\"}"),
    });
    let (mut master, slave) = terminal();
    let mut child = spawn(&fake, &slave, &["pull", "r.example/x:1"]);
    let shown = read_until(&mut master, "Username: ");
    assert_eq!(shown, "\r\nLogin prior to pull:\r\nUsername: ");
    master.write_all(b"me\n").unwrap();
    read_until(&mut master, "Password: ");
    wait_until("echo off", || !echoes(&slave));
    master.write_all(b"secret\n").unwrap();
    read_until(&mut master, "r.example/x:1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        fake.requests().pop().unwrap().registry_auth(),
        "{\"username\":\"me\",\"password\":\"secret\",\"serveraddress\":\"r.example\"}"
    );
}

#[test]
fn progress_is_drawn_for_the_width_the_terminal_has_now() {
    let fake = Fake::start(|_, stream| {
        answer(
            stream,
            "200 OK",
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1200000,\"total\":3400000},\"id\":\"aa\"}\r\n\
             {\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        );
    });
    for (columns, bar) in [
        (100, ""),
        (
            120,
            "[=================>                                 ] ",
        ),
    ] {
        let (mut master, slave) = terminal();
        let size = Winsize {
            ws_row: 30,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let mut child = spawn(&fake, &slave, &["pull", "r.example/x:1"]);
        let shown = read_until(&mut master, "r.example/x:1");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(
            shown.trim_end(),
            format!(
                "\r\n\x1b[1A\x1b[2K\raa: Downloading {bar}   1.2MB/3.4MB\r\x1b[1B\x1b[1A\x1b[2K\raa: Pull complete \
                 \r\x1b[1Br.example/x:1"
            )
        );
    }
}
