//! Requests and answers byte by byte.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use crate::fake::Server;

fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn ping_says_who_answers() {
    let server = Server::start();
    let answer = server.ask("GET /_ping", "").to_ascii_lowercase();
    for part in [
        "http/1.1 200 ok",
        "api-version: 1.51",
        "docker-experimental: false",
        "ostype: linux",
        "server: cais/",
        "builder-version: ",
        "swarm: inactive",
        "cache-control: no-cache",
        "\r\n\r\nok",
    ] {
        assert!(answer.contains(part), "{part:?} in {answer}");
    }
    let head = server.ask("HEAD /v1.30/_ping", "").to_ascii_lowercase();
    assert!(
        head.contains("api-version: 1.51") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn versions_and_unknown_paths_are_refused_in_dockers_words() {
    let server = Server::start();
    for (request, status, message) in [
        (
            "GET /v1.60/info",
            400,
            "client version 1.60 is too new. Maximum supported API version is 1.51",
        ),
        ("GET /v1.12/info", 400, "client version 1.12 is too old."),
        ("GET /nothing", 404, r#"{"message":"page not found"}"#),
        ("PATCH /info", 404, r#"{"message":"page not found"}"#),
        (
            "GET /containers/none/json",
            404,
            r#"{"message":"No such container: none"}"#,
        ),
        ("POST /containers/box/kill", 409, "is not running"),
        (
            "GET /containers/box/logs",
            400,
            "you must choose at least one stream",
        ),
        (
            "POST /containers/box/wait?condition=never",
            400,
            "invalid condition: ",
        ),
        (
            "POST /containers/box/resize?h=1&w=x",
            400,
            "invalid resize width",
        ),
        ("GET /containers/json?filters=%7B", 400, "invalid filter"),
        ("POST /build?buildargs=%7B", 400, "error reading buildargs"),
        ("POST /build?memory=x", 400, "memory"),
        ("POST /build/cancel", 400, "build ID not provided"),
        (
            "POST /images/create?fromImage=none&tag=1",
            404,
            "manifest unknown",
        ),
        (
            "POST /images/create?fromImage=Upper",
            400,
            "must be lowercase",
        ),
        (
            "POST /images/create?fromImage=a&platform=a%2Fb%2Fc%2Fd",
            400,
            "cannot parse platform specifier",
        ),
        ("GET /images/search?term=a&limit=x", 400, "invalid limit"),
        ("GET /nodes", 503, "This node is not a swarm manager."),
    ] {
        let answer = server.ask(request, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(answer.contains(message), "{request}: {answer}");
    }
}

#[test]
fn bodies_must_be_json() {
    let server = Server::start();
    let create = "POST /containers/create?name=n";
    let json = format!("{create}\nContent-Type: application/json; charset=utf-8");
    let answer = server.ask(&json, r#"{"image":"busybox","HOSTCONFIG":null}"#);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(
        answer.ends_with("{\"Id\":\"n:busybox\",\"Warnings\":[]}\n"),
        "{answer}"
    );
    let typed = format!("{create}\nContent-Type: text/plain");
    for (head, body, message) in [
        (
            typed.as_str(),
            "{}",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        (create, "{}", "malformed Content-Type header"),
        (&json, "{", "invalid JSON: "),
        (&json, "{} {}", "unexpected content after JSON"),
        (
            &json,
            "",
            "invalid JSON: got EOF while reading request body",
        ),
        (&json, "{}", "config cannot be empty"),
    ] {
        let answer = server.ask(head, body);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(message),
            "{message}: {answer}"
        );
    }
}

#[test]
fn older_versions_get_what_they_know() {
    let server = Server::start();
    let old = server.ask("GET /v1.43/containers/box/json", "");
    let new = server.ask("GET /v1.44/containers/box/json", "");
    let in_config = r#""WorkingDir":"","Entrypoint":null,"MacAddress":"02:42:ac:11:00:02""#;
    assert!(
        old.contains(in_config) && old.contains(r#""Aliases":["abababababab"]"#),
        "{old}"
    );
    assert!(!new.contains(in_config), "{new}");
    assert!(
        server
            .ask("GET /v1.43/images/a/b:c/json", "")
            .contains(r#""VirtualSize":7"#)
    );
    assert!(
        !server
            .ask("GET /images/a/b:c/json", "")
            .contains("VirtualSize")
    );
    let multiplexed = "application/vnd.docker.multiplexed-stream";
    assert!(
        server
            .ask("GET /v1.42/containers/box/logs?stdout=1", "")
            .contains(multiplexed)
    );
    assert!(
        !server
            .ask("GET /v1.41/containers/box/logs?stdout=1", "")
            .contains(multiplexed)
    );
}

#[test]
fn an_unchanged_start_is_304_without_a_body() {
    let server = Server::start();
    let answer = server.ask("POST /containers/tty/start", "");
    assert!(
        answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert!(
        server
            .ask("POST /containers/box/start", "")
            .starts_with("HTTP/1.1 204 ")
    );
}

#[test]
fn wait_answers_its_head_before_the_end() {
    let server = Server::start();
    let mut stream = server.connect();
    write!(
        stream,
        "POST /containers/box/wait HTTP/1.1\r\nHost: d\r\n\r\n"
    )
    .unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    server.fake.exit.notify_one();
    let body = read_until(&mut stream, "\n0\r\n\r\n".trim_start());
    assert!(body.contains(r#"{"StatusCode":3}"#), "{body}");
    // The connection is kept.
    write!(stream, "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    assert!(read_until(&mut stream, "\r\n\r\nOK").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_leaves_ends_its_stream() {
    let server = Server::start();
    let mut stream = server.connect();
    write!(stream, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    let text = read_until(&mut stream, "}\n");
    assert!(text.contains(r#""Action":"start""#), "{text}");
    drop(stream);
    let end = Instant::now() + Duration::from_secs(20);
    while server
        .fake
        .dropped
        .load(std::sync::atomic::Ordering::SeqCst)
        == 0
    {
        assert!(Instant::now() < end, "the stream outlives its client");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn progress_streams_carry_their_failures() {
    let server = Server::start();
    let answer = server.ask(
        "POST /images/load\nContent-Type: application/x-tar",
        "0123456789",
    );
    assert!(answer.contains("{\"stream\":\"10 bytes\"}\r\n"), "{answer}");
    let failure = r#"{"errorDetail":{"message":"broken archive"},"error":"broken archive"}"#;
    assert!(answer.contains(failure), "{answer}");
    assert!(
        server
            .ask("GET /images/get?names=a&names=b%2Fc", "")
            .contains("a,b/c")
    );
}

#[test]
fn the_socket_is_private_and_only_a_stale_one_is_replaced() {
    let server = Server::start();
    let file = std::fs::metadata(&server.socket).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, file.uid()), (0o660, 0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let error = cais_api::unix_listener(&server.socket, "0").unwrap_err();
    assert!(
        error.message().contains("another daemon answers"),
        "{error}"
    );
    let other = server.socket.with_extension("stale");
    drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
    cais_api::unix_listener(&other, "0").unwrap();
}

/// Every route of Docker answers something of its own.
#[test]
fn no_route_of_the_engine_api_is_unknown() {
    let server = Server::start();
    for (method, path) in include_str!("routes.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
    {
        let answer = server.ask(&format!("{method} {path}?since=0&until=1"), "");
        let status = &answer[9..12];
        assert_ne!(status, "405", "{method} {path}");
        assert!(
            !answer.contains("page not found"),
            "{method} {path}: {answer}"
        );
    }
}

#[test]
fn commit_reads_its_query_and_an_optional_configuration() {
    let server = Server::start();
    for (query, body, wants) in [
        ("container=box", "", ["pause: true", " None"]),
        ("container=box", "null", ["pause: true", " None"]),
        ("container=box&pause=0", "{}", ["pause: false", "Some"]),
        (
            "container=box&changes=A&changes=B&repo=r&tag=t",
            r#"{"User":"me"}"#,
            ["changes: [", "me"],
        ),
    ] {
        let request = format!("POST /commit?{query}\nContent-Type: application/json");
        let answer = server.ask(&request, body);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        for want in wants {
            assert!(answer.contains(want), "{want}: {answer}");
        }
    }
}

#[test]
fn pulls_and_pushes_say_what_is_meant_and_fail_late_in_a_line() {
    let server = Server::start();
    let digest = format!("sha256:{}", "ab".repeat(32));
    // {"username":"me","password":"secret"}, with and without padding.
    let padded = "X-Registry-Auth: eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ==";
    let bare = padded.trim_end_matches('=');
    for (request, want) in [
        (
            "POST /images/create?fromImage=a",
            r#"["docker.io/library/a",null,""]"#.to_owned(),
        ),
        (
            "POST /images/create?fromImage=a%3A",
            r#"["docker.io/library/a",null,""]"#.to_owned(),
        ),
        (
            "POST /images/create?fromImage=a%3A1&tag=2",
            r#"["docker.io/library/a:2",null,""]"#.to_owned(),
        ),
        (
            &format!("POST /images/create?fromImage=l%3A5%2Fa&tag={digest}\n{padded}"),
            format!(r#"["l:5/a@{digest}",null,"me"]"#),
        ),
        (
            &format!("POST /images/create?fromImage=a&platform=linux%2Fx86_64\n{bare}"),
            r#"["docker.io/library/a","linux/amd64","me"]"#.to_owned(),
        ),
        (
            "POST /images/l:5/a/b/push?tag=t&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D\nX-Registry-Auth: e30=",
            r#"["l:5/a/b:t","linux/arm64",""]"#.to_owned(),
        ),
    ] {
        let answer = server.ask(request, "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request}: {answer}");
        assert!(answer.contains(&want), "{request}: {answer}");
        assert!(
            answer.contains(r#"{"errorDetail":{"message":"later"},"error":"later"}"#),
            "{answer}"
        );
    }
    let body = r#"{"username":"old","password":"x"}"#;
    let answer = server.ask("POST /images/a/push\nContent-Type: application/json", body);
    assert!(
        answer.contains(r#"["docker.io/library/a",null,"old"]"#),
        "{answer}"
    );
    let answer = server.ask(&format!("GET /images/search?term=x&limit=7\n{padded}"), "");
    assert!(
        answer.contains(r#"[{"star_count":7,"is_official":false,"name":"x","is_automated":false,"description":"me"}]"#),
        "{answer}"
    );
    let answer = server.ask("POST /auth\nContent-Type: application/json", body);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let body = r#"{"username":"me","password":"secret"}"#;
    let answer = server.ask("POST /auth\nContent-Type: application/json", body);
    assert!(
        answer.contains(r#"{"IdentityToken":"","Status":"Login Succeeded"}"#),
        "{answer}"
    );
}
