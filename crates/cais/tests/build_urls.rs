//! ADD of files behind URLs, from a server of the test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use cais_testkit::TestDaemon;

use crate::build::{Context, built, fails};
use crate::daemon;

/// Answers each path with the text that stands beside it, head included; lives as long as the process.
fn server(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines
                .next()
                .and_then(Result::ok)
                .is_some_and(|line| !line.is_empty())
            {}
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = answers.iter().find(|(known, _)| *known == path);
            let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned()
                + "Connection: close\r\n\r\n";
            let answer = answer.map_or(missing, |(_, answer)| answer.clone());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

fn ok(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n{body}")
}

fn redirect(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

fn shown(daemon: &TestDaemon, image: &str, script: &str) -> String {
    daemon
        .docker(&["run", "--rm", image, "sh", "-c", script])
        .unwrap()
}

#[test]
fn add_fetches_urls() {
    let daemon = daemon();
    let time = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    let url = server(vec![
        ("/d/file?x=1", ok(time, "hello")),
        ("/moved", redirect("/d/file?x=1")),
        (
            "/",
            ok(
                "Content-Disposition: attachment; filename=\"../named\"\r\n",
                "named",
            ),
        ),
    ]);
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let context = Context::new(&[]);
    let text = format!(
        "FROM busybox\nADD --checksum={digest} --chmod=640 --chown=3:4 {url}/d/file?x=1 /to/\n\
         ADD {url}/moved /m\nADD {url}/ /to/\n"
    );
    context.write("Dockerfile", &text);
    built(&daemon, &context, &["-t", "fetched"]);
    assert_eq!(
        shown(
            &daemon,
            "fetched",
            "stat -c '%a %u:%g %Y' /to/file /m; cat /to/file /m /to/named"
        ),
        "640 3:4 1445412480\n600 0:0 1445412480\nhellohellonamed"
    );
    let again = built(&daemon, &context, &[]);
    assert_eq!(again.matches("Using cache").count(), 3, "{again}");
}

#[test]
fn add_says_which_url_it_could_not_fetch() {
    let daemon = daemon();
    let url = server(vec![
        ("/f", ok("", "hello")),
        ("/loop", redirect("/loop")),
        ("/metadata", redirect("http://169.254.169.254/latest")),
        ("/file", redirect("file:///etc/passwd")),
        ("/", ok("", "x")),
    ]);
    let context = Context::new(&[]);
    let zeros = "0".repeat(64);
    for (add, want) in [
        (
            format!("{url}/none /x"),
            format!("failed to GET {url}/none with status 404 Not Found"),
        ),
        (
            format!("--checksum=sha256:{zeros} {url}/f /x"),
            "digest mismatch sha256:2cf24dba".to_owned(),
        ),
        (
            format!("{url}/ /x/"),
            format!("cannot determine filename from url: {url}/"),
        ),
        (
            format!("{url}/loop /x"),
            "stopped after 10 redirects".to_owned(),
        ),
        (
            format!("{url}/metadata /x"),
            "address is not allowed".to_owned(),
        ),
        (
            format!("{url}/file /x"),
            "address is not allowed".to_owned(),
        ),
    ] {
        context.write("Dockerfile", &format!("FROM busybox\nADD {add}\n"));
        let (_, error) = fails(&daemon, &context, &[]);
        assert!(error.contains(&want), "{add}: {error}");
    }
}

#[test]
fn a_context_may_stand_behind_a_url() {
    let daemon = daemon();
    let url = server(vec![
        (
            "/plain",
            ok("Content-Type: text/plain\r\n", "FROM busybox\nENV A=b\n"),
        ),
        ("/git", redirect("file:///etc/passwd")),
    ]);
    let socket = daemon.socket();
    let build = |remote: &str, tag: &str| {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "--unix-socket",
                &socket.to_string_lossy(),
                "-X",
                "POST",
            ])
            .arg(format!("http://d/build?remote={remote}&t={tag}"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = build(&format!("{url}/plain"), "remote");
    assert!(
        answer.contains("Successfully tagged remote:latest"),
        "{answer}"
    );
    assert_eq!(shown(&daemon, "remote", "echo $A"), "b\n");
    for (remote, want) in [
        (format!("{url}/none"), "with status 404"),
        (format!("{url}/git"), "address is not allowed"),
        (
            "file:///etc/passwd".to_owned(),
            "neither a git repository nor",
        ),
        (format!("{url}/x.git"), "unable to fetch http://"),
    ] {
        let answer = build(&remote, "no");
        assert!(answer.contains(want), "{remote}: {answer}");
    }
}

#[test]
fn what_an_archive_has_belongs_to_whom_is_asked_for() {
    let daemon = daemon();
    let context = Context::new(&[("in/dir/file", "text"), ("in/script", "")]);
    let archive = context.path().join("a.tar");
    let made = std::process::Command::new("sh")
        .arg("-c")
        .arg("cd $1/in && chmod 4750 script && ln dir/file twin && ln -s dir link && tar --owner=7 --group=8 -cf $1/a.tar . && rm -r $1/in")
        .args(["sh", &context.path().to_string_lossy()])
        .status();
    assert!(made.unwrap().success());
    let body = std::fs::read(&archive).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.tar", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .for_each(drop);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    let text = format!(
        "FROM busybox\nADD a.tar /as/\nADD --chown=1:2 a.tar /own/\nADD --unpack=true --chown=3:4 {url} /far/\n"
    );
    context.write("Dockerfile", &text);
    built(&daemon, &context, &["-t", "unpacked"]);
    let script = "for d in as own far; do stat -c '%a %u:%g %h' /$d/dir /$d/dir/file /$d/script; readlink /$d/link; done";
    let each = |owner: &str| format!("755 {owner} 2\n644 {owner} 2\n4750 {owner} 1\ndir\n");
    let expected = ["7:8", "1:2", "3:4"].map(each).concat();
    assert_eq!(shown(&daemon, "unpacked", script), expected);
}
