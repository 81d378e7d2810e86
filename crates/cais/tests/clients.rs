//! The same lines typed with docker and with cais print the same.

use cais_testkit::TestDaemon;

use crate::daemon;

/// Exit code, standard output and standard error of a line.
fn run(daemon: &TestDaemon, program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = daemon.client(program, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs a line with both command lines and compares exit code, standard output and standard error. What tells how long ago
/// something was may change from one moment to the next: then the line is run again.
fn same(daemon: &TestDaemon, args: &[&str]) -> String {
    loop {
        let ours = run(daemon, crate::CAIS, args);
        let docker = run(daemon, "docker", args);
        if ours != run(daemon, crate::CAIS, args) {
            continue;
        }
        let (code, output, error) = ours;
        let error = error.replace("cais", "docker");
        assert_eq!(
            (code, &output, &error),
            (docker.0, &docker.1, &docker.2),
            "{args:?}"
        );
        return output;
    }
}

#[test]
fn run_prints_and_exits_as_with_docker() {
    let daemon = daemon();
    assert_eq!(
        same(&daemon, &["run", "--rm", "busybox", "echo", "hi"]),
        "hi\n"
    );
    same(
        &daemon,
        &[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 42",
        ],
    );
    same(
        &daemon,
        &[
            "run",
            "--rm",
            "-e",
            "A=b",
            "-w",
            "/tmp",
            "-u",
            "33:33",
            "busybox",
            "sh",
            "-c",
            "echo $A; pwd; id",
        ],
    );
    same(&daemon, &["run", "--rm", "busybox", "no-such-program"]);
    same(&daemon, &["run", "--rm", "busybox", "/etc"]);
    same(
        &daemon,
        &[
            "run",
            "--rm",
            "--entrypoint",
            "echo",
            "busybox",
            "from",
            "entrypoint",
        ],
    );
}

#[test]
fn tables_and_templates_are_byte_equal() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "one",
            "-p",
            "127.0.0.1::80",
            "--label",
            "a=b",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    daemon
        .cais(&[
            "create",
            "--name",
            "two",
            "busybox",
            "echo",
            "a rather long command line that will be cut",
        ])
        .unwrap();
    for args in [
        &[
            "ps",
            "-a",
            "--format",
            "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.Ports}} {{.State}} {{.Labels}} {{.Networks}}",
        ][..],
        &["ps", "-aq", "--no-trunc"],
        &[
            "ps",
            "-a",
            "--format",
            "table {{.Names}}\t{{.Image}}\t{{.Command}}",
        ],
        &["ps", "--filter", "name=two", "-a", "--format", "json"],
        &[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}",
        ],
        &["images"],
        &["image", "ls", "--no-trunc", "--digests"],
        &["history", "busybox"],
        &["inspect", "one"],
        &[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.Pid}} {{json .Config.Cmd}} {{range .Mounts}}{{.Name}}{{end}}",
            "one",
        ],
        &["inspect", "--type", "image", "busybox"],
        &["inspect", "no-such-thing"],
        &["port", "one"],
        &["volume", "ls"],
        &[
            "network",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}",
        ],
        &["network", "inspect", "bridge"],
        &[
            "version",
            "--format",
            "{{.Server.APIVersion}} {{.Server.Os}}",
        ],
        &["logs", "one"],
        &["diff", "one"],
        &["ps", "--format", "{{.NoSuchField}}"],
        &["ps", "--no-such-flag"],
        &["rm", "one"],
        &["stop", "no-such-container"],
        &["exec", "two", "true"],
        &["exec", "one", "sh", "-c", "exit 3"],
        &["wait", "no-such-container"],
    ] {
        same(&daemon, args);
    }
}

#[test]
fn the_real_docker_drives_the_daemon() {
    let daemon = daemon();
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "busybox", "echo", "hi"])
            .unwrap(),
        "hi\n"
    );
    let id = daemon
        .docker(&["run", "-d", "--name", "server", "busybox", "sleep", "1000"])
        .unwrap();
    assert_eq!(
        daemon
            .docker(&["exec", "server", "cat", "/proc/1/comm"])
            .unwrap(),
        "sleep\n"
    );
    assert_eq!(daemon.docker(&["ps", "-q", "--no-trunc"]).unwrap(), id);
    let stats = daemon
        .docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"])
        .unwrap();
    assert_eq!(stats, "server 1\n");
    daemon.docker(&["stop", "-t", "0", "server"]).unwrap();
    assert_eq!(
        daemon
            .docker(&["inspect", "-f", "{{.State.ExitCode}}", "server"])
            .unwrap(),
        "137\n"
    );
    daemon.docker(&["rm", "server"]).unwrap();
    assert_eq!(daemon.docker(&["ps", "-aq"]).unwrap(), "");
}
