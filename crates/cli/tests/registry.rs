//! Verbs that reach registries through the daemon: requests, progress, texts. Recorded from docker 28.2.2.

use std::os::unix::net::UnixStream;

use crate::fake::{Fake, Outcome, Request, answer, refuse};

/// A daemon whose pulls and pushes tell these documents.
fn telling(documents: &'static str) -> Fake {
    Fake::start(move |request: &Request, stream: &mut UnixStream| {
        if request.line.starts_with("POST /v1.51/images/") {
            answer(stream, "200 OK", documents);
        } else {
            answer(stream, "200 OK", "{}");
        }
    })
}

fn said(outcome: &Outcome) -> (Option<i32>, &str, &str) {
    (outcome.code, &outcome.out, &outcome.err)
}

#[test]
fn pull_tells_what_it_gets() {
    let fake = telling(
        "{\"status\":\"Pulling from library/x\",\"id\":\"latest\"}\r\n\
         {\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"aa\"}\r\n\
         {\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n{\"status\":\"Digest: sha256:ab\"}\r\n",
    );
    let outcome = fake.run(&["pull", "x"]);
    assert_eq!(
        said(&outcome),
        (
            Some(0),
            "Using default tag: latest\nlatest: Pulling from library/x\naa: Pull complete\nDigest: sha256:ab\n\
             docker.io/library/x:latest\n",
            ""
        )
    );
    let outcome = fake.run(&[
        "image",
        "pull",
        "-q",
        "--platform",
        "linux/arm64",
        "r.example/x:1",
    ]);
    assert_eq!(said(&outcome), (Some(0), "r.example/x:1\n", ""));
    let outcome = fake.run(&["pull", "-aq", "r.example/x"]);
    assert_eq!(said(&outcome), (Some(0), "r.example/x\n", ""));
    let lines: Vec<String> = fake
        .requests()
        .into_iter()
        .map(|request| request.line)
        .filter(|line| !line.contains("_ping"))
        .collect();
    assert_eq!(
        lines,
        [
            "POST /v1.51/images/create?fromImage=docker%2Eio%2Flibrary%2Fx&tag=latest",
            "POST /v1.51/images/create?fromImage=r%2Eexample%2Fx&tag=1&platform=linux%2Farm64",
            "POST /v1.51/images/create?fromImage=r%2Eexample%2Fx",
        ]
    );
    assert_eq!(fake.requests()[0].header("X-Registry-Auth"), Some("e30="));
}

#[test]
fn a_pull_that_breaks_off_says_why() {
    let fake = telling(
        "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"long story\"},\"error\":\"story\"}\r\n",
    );
    let outcome = fake.run(&["pull", "x:1"]);
    assert_eq!(said(&outcome), (Some(1), "Pulling\n", "long story\n"));
    let outcome = fake.run(&["run", "--pull", "always", "x:1"]);
    assert_eq!(
        said(&outcome),
        (
            Some(125),
            "",
            "Pulling\ndocker: long story\n\nRun 'docker run --help' for more information\n"
        )
    );
}

#[test]
fn push_tells_what_it_gives() {
    let fake = telling(
        "{\"status\":\"The push refers to repository [r.example/x]\"}\r\n\
         {\"status\":\"Pushed\",\"progressDetail\":{},\"id\":\"aa\"}\r\n\
         {\"progressDetail\":{},\"aux\":{\"Tag\":\"latest\",\"Digest\":\"sha256:aa\",\"Size\":5}}\r\n",
    );
    let outcome = fake.run(&["push", "r.example/x"]);
    assert_eq!(
        said(&outcome),
        (
            Some(0),
            "Using default tag: latest\nThe push refers to repository [r.example/x]\naa: Pushed\n",
            ""
        )
    );
    let outcome = fake.run(&["push", "-q", "--platform", "linux/arm64", "r.example/x:1"]);
    assert_eq!(
        said(&outcome),
        (
            Some(0),
            "\n Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.\n\
             \x20        Other components, like attestations, will not be included.\n\
             \x20        To push the complete multi-platform image, remove the --platform flag.\n         \n\
             r.example/x:1\n",
            ""
        )
    );
    fake.run(&["push", "-a", "r.example/x"]);
    let lines: Vec<String> = fake
        .requests()
        .into_iter()
        .map(|request| request.line)
        .filter(|line| !line.contains("_ping"))
        .collect();
    assert_eq!(lines[0], "POST /v1.51/images/r.example/x/push?tag=latest");
    assert_eq!(
        lines[1],
        "POST /v1.51/images/r.example/x/push?tag=1&platform=%7B%22architecture%22%3A%22arm64%22%2C%22os%22%3A%22linux%22%7D"
    );
    assert_eq!(lines[2], "POST /v1.51/images/r.example/x/push");
}

#[test]
fn names_are_checked_before_anybody_is_asked() {
    let fake = telling("");
    for (args, err) in [
        (
            &["pull", "BAD"][..],
            "invalid reference format: repository name (library/BAD) must be lowercase\n",
        ),
        (
            &["pull", "-a", "x:y"],
            "tag can't be used with --all-tags/-a\n",
        ),
        (
            &["push", "-a", "x:y"],
            "tag can't be used with --all-tags/-a\n",
        ),
        (&["push", "x y"], "invalid reference format\n"),
        (
            &["commit", "c", "BAD"],
            "invalid reference format: repository name (library/BAD) must be lowercase\n",
        ),
    ] {
        assert_eq!(said(&fake.run(args)), (Some(1), "", err), "{args:?}");
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn nobody_takes_an_image_for_verified() {
    let fake = telling("");
    for args in [
        &["pull", "--disable-content-trust=false", "x:1"][..],
        &["push", "--disable-content-trust=false", "x:1"],
        &["create", "--disable-content-trust=false", "x:1"],
    ] {
        let outcome = fake.run(args);
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert!(
            outcome.err.contains("content trust is not built"),
            "{}",
            outcome.err
        );
    }
    let mut command = fake.command(&["pull", "x:1"]);
    let output = command.env("DOCKER_CONTENT_TRUST", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(fake.requests().is_empty());
}

#[test]
fn flags_that_a_daemon_is_too_old_for_are_refused() {
    let fake = Fake::start(|_, stream| {
        use std::io::Write as _;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK")
            .unwrap();
    });
    for (args, flag, since) in [
        (
            &["push", "--platform", "linux/amd64", "x"][..],
            "platform",
            46,
        ),
        (&["images", "--tree"], "tree", 47),
        (&["save", "--platform", "linux/amd64", "x"], "platform", 48),
        (&["rmi", "--platform", "linux/amd64", "x"], "platform", 50),
    ] {
        let err = format!(
            "\"--{flag}\" requires API version 1.{since}, but the Docker daemon API version is 1.41\n"
        );
        assert_eq!(
            said(&fake.run(args)),
            (Some(1), "", err.as_str()),
            "{args:?}"
        );
    }
}

#[test]
fn commit_sends_everything() {
    let fake = Fake::start(|_, stream| answer(stream, "201 Created", "{\"Id\":\"sha256:ab\"}"));
    let outcome = fake.run(&[
        "commit", "-a", "me", "-m", "msg", "-c", "ENV a=b", "-c", "CMD x", "-p=false", "cont",
        "repo:tag",
    ]);
    assert_eq!(said(&outcome), (Some(0), "sha256:ab\n", ""));
    assert_eq!(
        fake.requests()[0].line,
        "POST /v1.51/commit?container=cont&repo=docker%2Eio%2Flibrary%2Frepo&tag=tag&comment=msg&author=me\
         &changes=ENV%20a%3Db&changes=CMD%20x&pause=0"
    );
}

#[test]
fn refused_credentials_without_anybody_to_ask_are_an_error() {
    let fake = Fake::start(|_, stream| refuse(stream, "401 Unauthorized", "go away"));
    for args in [
        &["pull", "-q", "r.example/x"][..],
        &["push", "-q", "r.example/x"],
        &["search", "x"],
    ] {
        let outcome = fake.run(args);
        assert_eq!(
            said(&outcome),
            (Some(1), "", "Error response from daemon: go away\n"),
            "{args:?}"
        );
    }
    assert_eq!(fake.requests().len(), 3);
}
