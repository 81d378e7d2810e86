//! Terminals: handed over by a socket, or passed through.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use serde_json::json;

use super::Bundle;

fn receive(listener: std::os::fd::BorrowedFd<'_>) -> std::fs::File {
    let connection = cais_sys::socket::accept(listener).unwrap();
    let (mut buffer, mut fds) = ([0; 4096], Vec::new());
    let count = cais_sys::socket::receive(connection.as_fd(), &mut buffer, &mut fds).unwrap();
    assert!(count > 0);
    assert_eq!(fds.len(), 1);
    fds.pop().unwrap().into()
}

fn read_line(terminal: &mut std::fs::File) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.last() != Some(&b'\n') {
        terminal.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

#[test]
fn a_console_is_handed_over() {
    let mut bundle =
        Bundle::new("tty; stty size; stat -c %t:%T /dev/console /dev/pts/0; read x; echo got $x");
    bundle.process()["terminal"] = json!(true);
    bundle.process()["consoleSize"] = json!({"height": 33, "width": 77});
    let path = bundle.path().join("console.sock");
    let listener = cais_sys::socket::listen(&path, 0o600).unwrap();
    bundle.must(&[
        "create",
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ]);
    let mut terminal = receive(listener.as_fd());
    bundle.must(&["start", &bundle.id]);
    assert_eq!(read_line(&mut terminal), "/dev/pts/0");
    assert_eq!(read_line(&mut terminal), "33 77");
    assert_eq!(read_line(&mut terminal), "88:0");
    assert_eq!(read_line(&mut terminal), "88:0");
    terminal.write_all(b"typed\n").unwrap();
    assert_eq!(read_line(&mut terminal), "typed");
    assert_eq!(read_line(&mut terminal), "got typed");
    bundle.wait_stopped();
}

#[test]
fn an_exec_s_console_is_handed_over() {
    let bundle = Bundle::idle();
    bundle.start();
    let path = bundle.path().join("console.sock");
    let listener = cais_sys::socket::listen(&path, 0o600).unwrap();
    let socket = path.to_str().unwrap();
    let words = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        socket,
        &bundle.id,
    ];
    let script = ["sh", "-c", "tty; sleep 300"];
    bundle.must(&[&words[..], &script[..]].concat());
    let mut terminal = receive(listener.as_fd());
    assert!(read_line(&mut terminal).starts_with("/dev/pts/"));
}

#[test]
fn the_foreground_passes_a_terminal_through() {
    let mut bundle = Bundle::new(
        "tty; until stty size 2>/dev/null | grep -v '^0 0$'; do :; done; read x; echo got $x; exit 5",
    );
    bundle.process()["terminal"] = json!(true);
    let (controller, terminal) = cais_sys::pty::open().unwrap();
    cais_sys::pty::set_size(controller.as_fd(), 20, 60).unwrap();
    let side = || std::process::Stdio::from(terminal.try_clone().unwrap());
    let mut child = bundle
        .command(&["run", &bundle.id])
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn()
        .unwrap();
    drop(terminal);
    let mut outside = std::fs::File::from(controller);
    assert_eq!(read_line(&mut outside), "/dev/pts/0");
    assert_eq!(read_line(&mut outside), "20 60");
    outside.write_all(b"typed\n").unwrap();
    assert_eq!(read_line(&mut outside), "typed");
    assert_eq!(read_line(&mut outside), "got typed");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn a_terminal_needs_somebody_to_hold_it() {
    let mut bundle = Bundle::idle();
    bundle.process()["terminal"] = json!(true);
    let error = bundle.must_not(&["create", &bundle.id]);
    assert!(error.contains("console socket"), "{error}");
    bundle.must_not(&["run", "--detach", &bundle.id]);
    bundle.process()["terminal"] = json!(false);
    let error = bundle.must_not(&["create", "--console-socket", "/nothing", &bundle.id]);
    assert!(error.contains("console socket"), "{error}");
}

#[test]
fn a_user_owns_its_terminal() {
    let mut bundle = Bundle::new("echo x >/dev/pts/0; id -u");
    bundle.process()["terminal"] = json!(true);
    bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    let path = bundle.path().join("console.sock");
    let listener = cais_sys::socket::listen(&path, 0o600).unwrap();
    bundle.must(&[
        "create",
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ]);
    let mut terminal = receive(listener.as_fd());
    bundle.must(&["start", &bundle.id]);
    assert_eq!(read_line(&mut terminal), "x");
    assert_eq!(read_line(&mut terminal), "1000");
}
