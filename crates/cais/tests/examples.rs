//! The services of examples/ are built, run and asked. They need the registries of packages; those that take minutes are
//! left to `make test-long`.

use std::fs;
use std::path::Path;

use cais_testkit::http::Http;
use cais_testkit::{BaseImage, TestDaemon, wait_until};

use crate::CAIS;

/// Authorities of this host alone, as where a proxy looks into what is fetched.
const AUTHORITIES: &str = "/usr/local/share/ca-certificates";

/// Builds `debian` anew with the authorities that this host trusts besides Debian's.
fn trust_what_the_host_trusts(daemon: &TestDaemon) {
    let own = fs::read_dir(AUTHORITIES).is_ok_and(|mut files| files.next().is_some());
    if !own {
        return;
    }
    let context = tempfile::tempdir().unwrap();
    let dockerfile =
        format!("FROM debian\nCOPY *.crt {AUTHORITIES}/\nRUN update-ca-certificates\n");
    let path = context.path().join("Dockerfile");
    fs::write(&path, dockerfile).unwrap();
    let path = path.to_string_lossy();
    daemon
        .cais(&["build", "-f", &path, "-t", "debian", AUTHORITIES])
        .unwrap();
}

/// A daemon that has the example's image, built by our own command line.
fn built(example: &str) -> TestDaemon {
    let daemon = TestDaemon::with_images(CAIS, &[BaseImage::Debian]).unwrap();
    trust_what_the_host_trusts(&daemon);
    let context = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(example);
    daemon
        .cais(&["build", "-t", example, &context.to_string_lossy()])
        .unwrap();
    daemon
}

/// Runs the example's service and waits until it serves this text on its port.
fn serves(example: &str, port: u16, text: &str) {
    let daemon = built(example);
    let publish = format!("127.0.0.1::{port}");
    daemon
        .cais(&["run", "-d", "--name=service", "-p", &publish, example])
        .unwrap();
    let address = daemon
        .cais(&["port", "service", &port.to_string()])
        .unwrap();
    let server = Http::new(address.trim());
    wait_until("the service to answer", || {
        server
            .get("/")
            .is_ok_and(|answer| answer.text().contains(text))
    });
    daemon.cais(&["stop", "service"]).unwrap();
    let code = crate::state(&daemon, "service", "ExitCode");
    assert_eq!(code, "0", "the service takes its stop signal");
}

#[test]
fn nginx_serves_a_static_site() {
    serves("nginx-static", 80, "nginx says hello");
}

#[test]
fn a_c_program_is_compiled_and_answers() {
    serves("c-service", 8080, "C says hello");
}

#[test]
fn a_python_application_is_installed_and_answers() {
    serves("python-web", 8000, "Python says hello");
}

#[test]
#[ignore = "installs some hundred packages: make test-long"]
fn a_node_application_is_installed_and_answers() {
    serves("node-service", 3000, "Node says hello");
}

#[test]
#[ignore = "installs a compiler of some hundred megabytes: make test-long"]
fn a_rust_program_is_compiled_and_answers_from_scratch() {
    let daemon = built("rust-scratch");
    daemon
        .cais(&[
            "run",
            "-d",
            "--name=service",
            "-p",
            "127.0.0.1::8080",
            "rust-scratch",
        ])
        .unwrap();
    let address = daemon.cais(&["port", "service", "8080"]).unwrap();
    let server = Http::new(address.trim());
    wait_until("the service to answer", || {
        server
            .get("/")
            .is_ok_and(|answer| answer.text() == "Rust says hello\n")
    });
    let layers = crate::inspect(&daemon, "rust-scratch", "{{len .RootFS.Layers}}");
    assert_eq!(layers, "1", "the program and nothing else");
}

#[test]
fn postgres_sets_itself_up_and_answers() {
    let daemon = built("postgres");
    let refused = daemon.cais_output(&["run", "--rm", "postgres"]).unwrap();
    assert_ne!(refused.status.code(), Some(0), "a password is asked for");
    daemon
        .cais(&[
            "run",
            "-d",
            "--name=db",
            "--env=POSTGRES_PASSWORD=secret",
            "postgres",
        ])
        .unwrap();
    let ask = [
        "exec",
        "--env=PGPASSWORD=secret",
        "db",
        "psql",
        "--host=127.0.0.1",
        "--tuples-only",
        "--no-align",
        "--command=SELECT 6 * 7",
    ];
    wait_until("the database to answer", || {
        daemon.cais(&ask).is_ok_and(|answer| answer == "42\n")
    });
    daemon.cais(&["stop", "db"]).unwrap();
    assert_eq!(crate::state(&daemon, "db", "ExitCode"), "0");
}
