//! The real docker CLI against the fake.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::fake::Server;

fn docker(server: &Server, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("docker")
        .arg("-H")
        .arg(format!("unix://{}", server.socket.display()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(server: &Server, arguments: &[&str]) -> String {
    let output = docker(server, arguments, b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_ps_and_inspect_are_understood() {
    let server = Server::start();
    assert_eq!(
        text(&server, &["version", "--format", "{{.Server.Version}}"]),
        "28.5.2\n"
    );
    let rows = text(
        &server,
        &["ps", "--format", "{{.ID}} {{.Names}} {{.Status}}"],
    );
    assert_eq!(rows, "abababababab box Up 1 hours\n");
    let rows = text(&server, &["ps", "-a", "--format", "{{.Status}}"]);
    assert_eq!(rows, "Up 2 hours\n");
    assert_eq!(
        text(&server, &["inspect", "-f", "{{.State.Status}}", "box"]),
        "running\n"
    );
    let missing = docker(&server, &["inspect", "--type", "container", "none"], b"");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("No such container: none"));
}

#[test]
fn streams_are_understood() {
    let server = Server::start();
    let events = text(
        &server,
        &[
            "events",
            "--since",
            "0",
            "--until",
            "1",
            "--format",
            "{{.Action}}",
        ],
    );
    assert_eq!(events, "start\n");
    assert_eq!(text(&server, &["logs", "box"]), "log\n");
    assert_eq!(text(&server, &["export", "box"]), "tar");
}

#[test]
fn attach_carries_input_and_its_end() {
    let server = Server::start();
    server.fake.exit.notify_one();
    let output = docker(&server, &["attach", "box"], b"typed\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nbye\n");
    assert_eq!(output.status.code(), Some(3));
}
