//! Parameters of `POST /build` and flags of `build` that few clients use.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use cais_testkit::{TestDaemon, wait_until};

use crate::build::Context;
use crate::{daemon, inspect, refused};

/// A context as an archive.
fn archive(daemon: &TestDaemon, dockerfile: &str) -> PathBuf {
    let context = Context::new(&[("Dockerfile", dockerfile)]);
    let path = daemon.scratch().join("context.tar");
    let packed = Command::new("tar")
        .arg("-cf")
        .arg(&path)
        .arg("-C")
        .arg(context.path())
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    path
}

/// `curl` of a path of the API, to be run.
fn curl(daemon: &TestDaemon, path: &str) -> Command {
    let mut command = Command::new("curl");
    command.arg("-sN").arg("--unix-socket").arg(daemon.socket());
    command.args(["-X", "POST", "-H", "Content-Type: application/x-tar"]);
    command.arg(format!("http://d{path}"));
    command
}

/// `POST /build`; the answer.
fn post(daemon: &TestDaemon, parameters: &str, dockerfile: &str) -> String {
    let archive = archive(daemon, dockerfile);
    let mut command = curl(daemon, &format!("/build?{parameters}"));
    let output = command
        .arg("--data-binary")
        .arg(format!("@{}", archive.display()))
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn outputs_are_names_or_are_refused() {
    let daemon = daemon();
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let outputs = encode(r#"[{"Type":"image","Attrs":{"name":"by-output:1"}}]"#);
    let told = post(
        &daemon,
        &format!("t=by-tag&outputs={outputs}"),
        "FROM busybox\nENV A=b\n",
    );
    assert!(told.contains("Successfully tagged by-output:1"), "{told}");
    assert_eq!(
        inspect(&daemon, "by-output:1", "{{.Id}}"),
        inspect(&daemon, "by-tag", "{{.Id}}")
    );
    let outputs = encode(r#"[{"Type":"local","Attrs":{"dest":"/x"}}]"#);
    let told = post(&daemon, &format!("outputs={outputs}"), "FROM busybox\n");
    assert!(
        told.contains("output of type \\\"local\\\" of the classic builder is not built yet"),
        "{told}"
    );
    let told = post(&daemon, "isolation=hyperv", "FROM busybox\n");
    assert!(
        told.contains("unsupported isolation: \\\"hyperv\\\""),
        "{told}"
    );
    assert!(post(&daemon, "isolation=default", "FROM busybox\n").contains("Successfully built"));
}

#[test]
fn a_build_with_an_id_can_be_canceled() {
    let daemon = daemon();
    let archive = archive(&daemon, "FROM busybox\nRUN echo begun && sleep 100000\n");
    let mut build = curl(&daemon, "/build?buildid=mine");
    let mut build = build
        .arg("--data-binary")
        .arg(format!("@{}", archive.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step runs", || {
        !daemon.cais(&["ps", "-q"]).unwrap().is_empty()
    });
    let cancel = |id: &str| {
        let mut command = curl(&daemon, &format!("/build/cancel?id={id}"));
        let output = command
            .args(["-o", "/dev/null", "-w", "%{http_code}"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(cancel("another"), "200");
    assert!(build.try_wait().unwrap().is_none());
    assert_eq!(cancel("mine"), "200");
    let mut told = String::new();
    build
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    build.wait().unwrap();
    assert!(told.contains("context canceled"), "{told}");
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    assert_eq!(cancel("mine"), "200", "one that has ended is no error");
    assert_eq!(cancel(""), "400");
}

/// What clients send through a socket to a daemon.
fn tap(daemon: &TestDaemon) -> (String, Arc<Mutex<Vec<u8>>>) {
    let path = daemon.scratch().join("tap");
    let listener = UnixListener::bind(&path).unwrap();
    let (sent, target) = (Arc::new(Mutex::new(Vec::new())), daemon.socket());
    let seen = Arc::clone(&sent);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, seen) = (client.unwrap(), Arc::clone(&seen));
            let mut server = UnixStream::connect(&target).unwrap();
            let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut to));
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut piece) {
                    seen.lock().unwrap().extend_from_slice(&piece[..count]);
                    if server.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (format!("unix://{}", path.display()), sent)
}

#[test]
fn a_context_is_sent_compressed_when_asked_for() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nCOPY zeros /zeros\n")]);
    fs::write(context.path().join("zeros"), vec![0; 1 << 20]).unwrap();
    let path = context.path().to_string_lossy().into_owned();
    let (host, sent) = tap(&daemon);
    let output = daemon.cais_output(&["-H", &host, "build", "--compress", "-t", "made", &path]);
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = sent.lock().unwrap().clone();
    assert!(
        bytes.windows(3).any(|three| three == [0x1f, 0x8b, 8]),
        "gzip"
    );
    assert!(bytes.len() < 1 << 18, "{} bytes", bytes.len());
    assert_eq!(
        daemon
            .cais(&["run", "--rm", "made", "wc", "-c", "/zeros"])
            .unwrap(),
        "1048576 /zeros\n"
    );
    let refused_by_daemon = refused(&daemon, &["build", "--isolation=hyperv", &path]);
    assert!(
        refused_by_daemon.contains("unsupported isolation: \"hyperv\""),
        "{refused_by_daemon}"
    );
    let trust = refused(&daemon, &["build", "--disable-content-trust=false", &path]);
    assert!(trust.contains("content trust is not built"), "{trust}");
}
