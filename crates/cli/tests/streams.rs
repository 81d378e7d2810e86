//! Hijacked streams: standard input with half-close, frames, exec's exit code, version fallback.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::fake::{Fake, Request, answer, frame, refuse, upgrade};

fn exec_server(request: &Request, stream: &mut UnixStream) {
    let line = request.line.as_str();
    if line.ends_with("/containers/c/exec") {
        answer(stream, "201 Created", r#"{"Id":"e1"}"#);
    } else if line.ends_with("/exec/e1/start") {
        upgrade(stream, "application/vnd.docker.multiplexed-stream");
        let mut input = Vec::new();
        // Ends only because the client half-closes.
        stream.read_to_end(&mut input).unwrap();
        let text = format!("{} bytes", input.len());
        // Frames are written in small pieces, so that headers are cut.
        for piece in [frame(1, &text), frame(2, "E\n")].concat().chunks(3) {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    } else if line.ends_with("/exec/e1/json") {
        answer(
            stream,
            "200 OK",
            r#"{"ID":"e1","ExitCode":42,"Running":false}"#,
        );
    } else {
        refuse(stream, "404 Not Found", "page not found");
    }
}

#[test]
fn exec_sends_all_input_and_takes_the_exit_code() {
    let fake = Fake::start(exec_server);
    let input = vec![b'x'; 300_000];
    let outcome = fake.run_with(&["exec", "-i", "-e", "A=1", "c", "cat", "-n"], &input);
    assert_eq!(
        (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
        (Some(42), "300000 bytes", "E\n")
    );
    let body: serde_json::Value = serde_json::from_str(&fake.requests()[0].body).unwrap();
    assert_eq!(body["Cmd"], serde_json::json!(["cat", "-n"]));
    assert_eq!(body["Env"], serde_json::json!(["A=1"]));
    assert_eq!(body["AttachStdin"], true);
}

#[test]
fn a_200_answer_is_a_stream_as_well() {
    let fake = Fake::start(|request, stream| {
        if request.line.ends_with("/start") {
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
                )
                .unwrap();
            stream.write_all(&frame(1, "old\n")).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        } else {
            exec_server(request, stream);
        }
    });
    let outcome = fake.run(&["exec", "c", "true"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(42), "old\n"));
}

#[test]
fn an_older_daemon_is_asked_again_in_its_own_version() {
    let fake = Fake::start(|request, stream| {
        if request.line.contains("/v1.51/") {
            let text = "client version 1.51 is too new. Maximum supported API version is 1.43";
            refuse(stream, "400 Bad Request", text);
        } else {
            answer(stream, "200 OK", "[]");
        }
    });
    let outcome = fake.run(&["ps"]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        outcome.out,
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    );
    let lines: Vec<String> = fake
        .requests()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        lines,
        ["GET /v1.51/containers/json", "GET /v1.43/containers/json"]
    );
}

#[test]
fn logs_are_taken_apart() {
    let fake = Fake::start(|_, stream| {
        let body = [frame(1, "a\n"), frame(2, "b\n")].concat();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(&[head.as_bytes(), &body].concat())
            .unwrap();
    });
    let outcome = fake.run(&["logs", "--tail", "5", "c"]);
    assert_eq!(
        (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
        (Some(0), "a\n", "b\n")
    );
    assert_eq!(
        fake.requests()[0].line,
        "GET /v1.51/containers/c/logs?stdout=1&stderr=1&tail=5"
    );
}
