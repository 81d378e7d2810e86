//! The client against a server that reads HTTP by hand: connection reuse, versions, streams, errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use cais_client::{Client, ClientError, ClientOptions, Host};
use cais_types::ErrorClass;
use futures_util::StreamExt as _;

type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// Serves answers by request line; false closes the connection afterwards.
fn serve(handler: fn(&str, &mut UnixStream) -> bool) -> (tempfile::TempDir, Client, Seen) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Seen::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, log) = (stream.unwrap(), log.clone());
            std::thread::spawn(move || {
                while let Some(line) = request_line(&mut stream) {
                    log.lock().unwrap().push((number, line.clone()));
                    if !handler(&line, &mut stream) {
                        break;
                    }
                }
            });
        }
    });
    let client = Client::new(Host::Unix(path), ClientOptions::default()).unwrap();
    (directory, client, seen)
}

fn request_line(stream: &mut UnixStream) -> Option<String> {
    let mut buffer = Vec::new();
    while !buffer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        buffer.push(byte[0]);
    }
    let text = String::from_utf8(buffer).unwrap();
    Some(
        text.lines()
            .next()
            .unwrap()
            .trim_end_matches(" HTTP/1.1")
            .to_owned(),
    )
}

fn answer(stream: &mut UnixStream, status: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn calls_share_one_connection() {
    let (_keep, client, seen) = serve(|_, stream| {
        answer(stream, "204 No Content", "");
        true
    });
    for _ in 0..3 {
        client.container_pause("c").await.unwrap();
    }
    assert_eq!(
        *seen.lock().unwrap(),
        vec![(0, "POST /v1.51/containers/c/pause".to_owned()); 3]
    );
}

#[tokio::test]
async fn a_connection_the_daemon_closed_is_replaced() {
    let (_keep, client, seen) = serve(|_, stream| {
        answer(stream, "204 No Content", "");
        false
    });
    for _ in 0..3 {
        client.container_pause("c").await.unwrap();
    }
    let connections: Vec<usize> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[tokio::test]
async fn error_answers_have_a_class_and_the_daemons_words() {
    let (_keep, client, _) = serve(|line, stream| {
        match line.contains("gone") {
            true => answer(
                stream,
                "404 Not Found",
                "{\"message\":\"No such container: gone\"}",
            ),
            false => answer(stream, "500 Internal Server Error", "plain text"),
        }
        true
    });
    let gone = client.container_start("gone", None).await.unwrap_err();
    assert_eq!(gone.class(), ErrorClass::NotFound);
    assert_eq!(
        gone.to_string(),
        "Error response from daemon: No such container: gone"
    );
    let broken = client.container_start("x", None).await.unwrap_err();
    assert_eq!(
        (broken.class(), broken.daemon_message()),
        (ErrorClass::Internal, Some("plain text"))
    );
}

#[tokio::test]
async fn unchanged_is_no_error() {
    let (_keep, client, _) = serve(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n")
            .unwrap();
        true
    });
    assert!(!client.container_start("c", None).await.unwrap());
}

#[tokio::test]
async fn names_are_escaped_and_kept_apart_from_the_query() {
    let (_keep, client, seen) = serve(|_, stream| {
        answer(stream, "204 No Content", "");
        true
    });
    client.container_rename("a b?c", "x&y=z").await.unwrap();
    assert_eq!(
        seen.lock().unwrap()[0].1,
        "POST /v1.51/containers/a%20b%3Fc/rename?name=x%26y%3Dz"
    );
}

#[tokio::test]
async fn json_documents_are_found_wherever_they_are_cut() {
    let (_keep, client, _) = serve(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let text = "{\"status\":\"a\"}\r\n{\"status\":\"b}{\"}{\"status\":\"c\"}\n";
        for piece in text.as_bytes().chunks(5) {
            stream
                .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .unwrap();
            stream.write_all(piece).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        true
    });
    let mut lines = client
        .image_pull(&cais_client::api::options::PullOptions::default())
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(document) = lines.next::<serde_json::Value>().await.unwrap() {
        found.push(document["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, ["a", "b}{", "c"]);
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_twice_asks_for_the_version_first() {
    let (_keep, client, seen) = serve(|line, stream| {
        if line == "GET /_ping" {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK")
                .unwrap();
            return true;
        }
        answer(stream, "200 OK", "");
        false
    });
    let archive = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"tar"))]);
    client
        .container_unpack("c", "/", false, cais_client::body::Body::stream(archive))
        .await
        .unwrap();
    let lines: Vec<String> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, line)| line.clone())
        .collect();
    assert_eq!(lines[0], "GET /_ping");
    assert!(
        lines[1].starts_with("PUT /v1.41/containers/c/archive?path="),
        "{lines:?}"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let host: Host = "unix:///nonexistent/x.sock".parse().unwrap();
    let client = Client::new(host, ClientOptions::default()).unwrap();
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert_eq!(
        error.to_string(),
        "Cannot connect to the Docker daemon at unix:///nonexistent/x.sock. Is the docker daemon running?"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    let (_keep, client, _) = serve(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            .unwrap();
        false
    });
    let mut archive = client.container_export("c").await.unwrap();
    assert_eq!(archive.next().await.unwrap().unwrap(), "abc");
    assert!(archive.next().await.unwrap().is_err());
}
