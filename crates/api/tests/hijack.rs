//! Connections that leave HTTP.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::fake::Server;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

fn exchange(server: &Server, request: &str, early: &[u8], late: &[u8]) -> Vec<u8> {
    let mut stream = server.connect();
    let mut first = request.as_bytes().to_vec();
    first.extend_from_slice(early);
    stream.write_all(&first).unwrap();
    if !late.is_empty() {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(late).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = head.to_vec();
        stream.read_to_end(&mut answer).unwrap();
        return answer;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn parts(answer: &[u8]) -> (String, &[u8]) {
    let end = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    (
        String::from_utf8(answer[..end].to_vec()).unwrap(),
        &answer[end..],
    )
}

#[test]
fn a_session_is_asked_for_with_its_id_and_protocol() {
    let server = Server::start();
    let answer = |headers: &str| {
        let request = format!("POST /session HTTP/1.1\r\nHost: d\r\n{headers}\r\n");
        let answer = exchange(&server, &request, b"", b"");
        let (head, body) = parts(&answer);
        (head, String::from_utf8_lossy(body).into_owned())
    };
    let id = "X-Docker-Expose-Session-Uuid: one\r\n";
    let (head, body) = answer(&format!("{id}Connection: Upgrade\r\nUpgrade: h2c\r\n"));
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(head.contains("\r\nUpgrade: h2c\r\n"), "{head}");
    assert!(body.starts_with("hello\n"), "{body}");
    for headers in [UPGRADE.to_owned(), format!("{id}{UPGRADE}"), id.to_owned()] {
        let (head, _) = answer(&headers);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
}

#[test]
fn attach_upgrades_and_keeps_early_input_and_half_close() {
    let server = Server::start();
    let request =
        format!("POST /containers/tty/attach?stream=1 HTTP/1.1\r\nHost: d\r\n{UPGRADE}\r\n");
    let answer = exchange(&server, &request, b"early ", b"late");
    let (head, body) = parts(&answer);
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    for line in [
        "application/vnd.docker.raw-stream\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: tcp\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(body, b"hello\nearly latebye\n");
}

#[test]
fn frames_have_their_own_type_since_1_42() {
    let server = Server::start();
    for (version, kind) in [("v1.42", "multiplexed-stream"), ("v1.41", "raw-stream")] {
        let request = format!(
            "POST /{version}/containers/box/attach?stream=1 HTTP/1.1\r\nHost: d\r\n{UPGRADE}\r\n"
        );
        let answer = exchange(&server, &request, b"", b"x");
        let (head, body) = parts(&answer);
        assert!(
            head.contains(&format!("application/vnd.docker.{kind}\r\n")),
            "{head}"
        );
        assert_eq!(
            body,
            b"\x01\0\0\0\0\0\0\x06hello\n\x01\0\0\0\0\0\0\x01x\x01\0\0\0\0\0\0\x04bye\n"
        );
    }
}

#[test]
fn clients_that_ask_for_no_upgrade_get_200_and_the_raw_connection() {
    let server = Server::start();
    // An end of input that comes with the request is the end of standard input, not of the client.
    for early in [&b"input"[..], b""] {
        let request = "POST /containers/tty/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n";
        let answer = exchange(&server, request, early, b"");
        let (head, body) = parts(&answer);
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream"),
            "{head}"
        );
        assert_eq!(body, [b"hello\n", early, b"bye\n"].concat());
    }
}

#[test]
fn exec_start_reads_its_body_and_upgrades() {
    let server = Server::start();
    let body = r#"{"Detach":false,"Tty":true}"#;
    let request = format!(
        "POST /exec/box/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{UPGRADE}\r\n{body}",
        body.len()
    );
    let answer = exchange(&server, &request, b"more ", b"input");
    let (head, output) = parts(&answer);
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert_eq!(output, b"hello\nmore inputbye\n");
}

#[test]
fn a_refused_attach_is_a_plain_answer() {
    let server = Server::start();
    let answer = server.ask("POST /containers/none/attach?stream=1", "");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("No such container: none"), "{answer}");
}
