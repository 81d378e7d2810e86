//! The real docker command line at older versions of the API, and the framing that each of them gets.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use cais_testkit::TestDaemon;

use crate::daemon;

/// Standard output of a line at a version, or standard error when it fails.
fn at(daemon: &TestDaemon, version: &str, args: &[&str]) -> String {
    let mut command = daemon.client("docker", args);
    let output = command.env("DOCKER_API_VERSION", version).output().unwrap();
    // Before 1.25 the client complains on standard error about its own watch of the events, and succeeds.
    let told = match output.status.success() {
        true => output.stdout,
        false => output.stderr,
    };
    String::from_utf8(told).unwrap()
}

/// A GET whose connection is closed after the answer: head and body.
fn get(daemon: &TestDaemon, path: &str) -> (String, Vec<u8>) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: d\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    (head, answer[end + 4..].to_vec())
}

#[test]
fn docker_works_at_every_version() {
    let daemon = daemon();
    for version in [
        "1.24", "1.29", "1.30", "1.34", "1.40", "1.41", "1.42", "1.44", "1.47", "1.51",
    ] {
        let run = |args: &[&str]| at(&daemon, version, args);
        let hello = run(&["run", "--rm", "busybox", "echo", "hi"]);
        assert_eq!(hello, "hi\n", "{version}");
        let id = run(&["run", "-d", "--name", "old", "busybox", "sleep", "1000"]);
        assert_eq!(run(&["ps", "-q", "--no-trunc"]), id, "{version}");
        assert_eq!(run(&["exec", "old", "echo", "in"]), "in\n", "{version}");
        let status = run(&["inspect", "-f", "{{.State.Status}}", "old"]);
        assert_eq!(status, "running\n", "{version}");
        assert_eq!(run(&["kill", "old"]), "old\n", "{version}");
        assert_eq!(run(&["wait", "old"]), "137\n", "{version}");
        assert_eq!(run(&["rm", "old"]), "old\n", "{version}");
    }
}

#[test]
fn versions_that_are_not_ours_are_refused() {
    let daemon = daemon();
    assert_eq!(
        at(&daemon, "1.60", &["ps"]),
        "Error response from daemon: client version 1.60 is too new. Maximum supported API version is 1.51\n"
    );
    assert_eq!(
        at(&daemon, "1.23", &["ps"]),
        "Error response from daemon: client version 1.23 is too old. Minimum supported API version is 1.24, please \
         upgrade your client to a newer version\n"
    );
}

#[test]
fn framing_is_told_from_1_42_on() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--name", "framed", "busybox", "echo", "hi"])
        .unwrap();
    daemon
        .cais(&["run", "-t", "--name", "raw", "busybox", "echo", "hi"])
        .unwrap();
    for (version, name, kind, body) in [
        (
            "1.41",
            "framed",
            "raw-stream",
            &b"\x01\0\0\0\0\0\0\x03hi\n"[..],
        ),
        (
            "1.42",
            "framed",
            "multiplexed-stream",
            b"\x01\0\0\0\0\0\0\x03hi\n",
        ),
        ("1.41", "raw", "raw-stream", b"hi\r\n"),
        ("1.51", "raw", "raw-stream", b"hi\r\n"),
    ] {
        let path = format!("/v{version}/containers/{name}/logs?stdout=1&stderr=1");
        let (head, got) = get(&daemon, &path);
        let content_type = format!("content-type: application/vnd.docker.{kind}");
        assert!(head.contains(&content_type), "{version} {name}: {head}");
        assert_eq!(got, body, "{version} {name}");
    }
}
