//! Texts and exit codes of calls that go wrong; recorded from docker 28.2.2.

use crate::fake::{Fake, Outcome, answer, cli, refuse};

fn check(args: &[&str], code: i32, err: &str) {
    let outcome: Outcome = cli(args).output().unwrap().into();
    assert_eq!(
        (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
        (Some(code), "", err),
        "{args:?}"
    );
}

#[test]
fn words_and_flags() {
    check(
        &["foo"],
        1,
        "docker: unknown command: docker foo\n\nRun 'docker --help' for more information\n",
    );
    check(
        &["container", "foo"],
        1,
        "docker: unknown command: docker container foo\n\nUsage:  docker container\n\n\
         Run 'docker container --help' for more information\n",
    );
    check(
        &["run", "--foo"],
        125,
        "unknown flag: --foo\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n\
         Run 'docker run --help' for more information\n",
    );
    check(
        &["container", "run"],
        1,
        "docker: 'docker container run' requires at least 1 argument\n\n\
         Usage:  docker container run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n\
         See 'docker container run --help' for more information\n",
    );
    check(
        &["ps", "x"],
        1,
        "docker: 'docker ps' accepts no arguments\n\nUsage:  docker ps [OPTIONS]\n\n\
         Run 'docker ps --help' for more information\n",
    );
    check(
        &["run", "-p", "80:x", "img"],
        125,
        "docker: invalid containerPort: x\n\nRun 'docker run --help' for more information\n",
    );
}

#[test]
fn nobody_listens() {
    check(
        &["-H", "unix:///nonexistent", "stop", "a", "b"],
        1,
        "Cannot connect to the Docker daemon at unix:///nonexistent. Is the docker daemon running?\n\
         Cannot connect to the Docker daemon at unix:///nonexistent. Is the docker daemon running?\n",
    );
    check(
        &["-H", "ssh://x", "ps"],
        1,
        "cannot connect to ssh://x: hosts behind SSH are not supported yet\n",
    );
    check(
        &["-H", "foo://x", "ps"],
        1,
        "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: foo://x\n",
    );
}

#[test]
fn the_daemon_refuses() {
    let fake = Fake::start(|request, stream| {
        if request.line.contains("/containers/good/") {
            answer(stream, "204 No Content", "");
        } else {
            refuse(stream, "404 Not Found", "No such container: bad");
        }
    });
    let outcome = fake.run(&["stop", "bad", "good"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.out, "good\n");
    assert_eq!(
        outcome.err,
        "Error response from daemon: No such container: bad\n"
    );
    let outcome = fake.run(&["run", "--pull", "never", "img"]);
    assert_eq!(outcome.code, Some(125));
    assert_eq!(
        outcome.err,
        "docker: Error response from daemon: No such container: bad\n\nRun 'docker run --help' for more information\n"
    );
}

#[test]
fn a_missing_image_is_pulled_and_a_daemon_that_cannot_says_so() {
    let fake = Fake::start(|request, stream| {
        if request.line.contains("/images/create") {
            refuse(
                stream,
                "501 Not Implemented",
                "pulling images is not supported yet",
            );
        } else {
            refuse(stream, "404 Not Found", "No such image: img:latest");
        }
    });
    let outcome = fake.run(&["run", "img"]);
    assert_eq!(outcome.code, Some(125));
    assert_eq!(
        outcome.err,
        "Unable to find image 'img:latest' locally\n\
         docker: Error response from daemon: pulling images is not supported yet\n\n\
         Run 'docker run --help' for more information\n"
    );
    assert_eq!(
        fake.requests()[1].line,
        "POST /v1.51/images/create?fromImage=docker%2Eio%2Flibrary%2Fimg&tag=latest"
    );
}

#[test]
fn help_goes_to_standard_output() {
    for args in [
        &["ps", "--help"][..],
        &["help", "run"],
        &["container", "--help"],
        &["--help"],
    ] {
        let outcome: Outcome = cli(args).output().unwrap().into();
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.out.starts_with("Usage:  docker"), "{}", outcome.out);
        assert_eq!(outcome.err, "");
    }
}
