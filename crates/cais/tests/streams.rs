//! Logs, attach, exec and terminals, through both command lines.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use cais_testkit::{TestDaemon, wait_until};

use crate::{CAIS, daemon};

const CLIENTS: [&str; 2] = [CAIS, "docker"];

/// A client on a pseudo terminal of its own (script from bsdutils), typed at through its standard input.
fn on_terminal(daemon: &TestDaemon, client: &str, args: &str) -> Child {
    let mut command: Command = daemon.client(
        "script",
        &["-qefc", &format!("{client} {args}"), "/dev/null"],
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn read_until(child: &mut Child, text: &str) -> String {
    let output = child.stdout.as_mut().unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = output.read(&mut byte).unwrap();
        assert!(
            count == 1,
            "ended before {text:?}: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn interactive_input_reaches_the_program_and_ends() {
    let daemon = daemon();
    for client in CLIENTS {
        let mut child = daemon
            .client(client, &["run", "--rm", "-i", "busybox", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"one\ntwo\n")
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"one\ntwo\n", "{client}");
    }
}

#[test]
fn large_output_arrives_whole_on_every_way() {
    let daemon = daemon();
    let script = "seq 1 200000; seq 1 1000 >&2";
    let want: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    for client in CLIENTS {
        let output = daemon
            .client(
                client,
                &["run", "--name", "big", "busybox", "sh", "-c", script],
            )
            .output()
            .unwrap();
        assert_eq!(output.stdout.len(), want.len(), "{client}");
        assert_eq!(output.stdout, want.as_bytes());
        assert_eq!(
            output.stderr.iter().filter(|byte| **byte == b'\n').count(),
            1000
        );
        let logs = daemon.client(client, &["logs", "big"]).output().unwrap();
        assert_eq!(logs.stdout, want.as_bytes(), "logs with {client}");
        let tail = daemon
            .client(client, &["logs", "--tail", "2", "big"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&tail.stdout).lines().count()
                + String::from_utf8_lossy(&tail.stderr).lines().count(),
            2
        );
        daemon.cais(&["rm", "big"]).unwrap();
    }
}

#[test]
fn a_terminal_has_its_size_and_can_be_detached() {
    let daemon = daemon();
    for client in CLIENTS {
        let mut child = on_terminal(&daemon, client, "run -it --name tty busybox sh");
        read_until(&mut child, "# ");
        let input = child.stdin.as_mut().unwrap();
        input.write_all(b"tty; echo $((40+2))\n").unwrap();
        let seen = read_until(&mut child, "42\r\n");
        assert!(
            seen.contains("/dev/pts/0") || seen.contains("/dev/console"),
            "{seen}"
        );
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\x10\x11")
            .unwrap();
        wait_until("the client to detach", || {
            child.try_wait().unwrap().is_some()
        });
        assert_eq!(
            daemon
                .cais(&["inspect", "-f", "{{.State.Running}}", "tty"])
                .unwrap(),
            "true\n",
            "{client}"
        );

        let mut child = on_terminal(&daemon, client, "attach tty");
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"exit 7\n")
            .unwrap();
        wait_until("the shell to exit", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(7), "{client}");
        daemon.cais(&["rm", "tty"]).unwrap();
    }
}

#[test]
fn exec_on_a_terminal_and_its_code() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    for client in CLIENTS {
        let mut child = on_terminal(&daemon, client, "exec -it box sh");
        read_until(&mut child, "# ");
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"test -t 0 && exit 6\n")
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(6), "{client}");
    }
}

#[test]
fn logs_follow_until_the_end() {
    let daemon = daemon();
    for client in CLIENTS {
        daemon
            .cais(&[
                "run",
                "-d",
                "--name",
                "talker",
                "-i",
                "busybox",
                "sh",
                "-c",
                "echo first; read line; echo second",
            ])
            .unwrap();
        let mut follow = daemon
            .client(client, &["logs", "-f", "talker"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        read_until(&mut follow, "first\n");
        let mut attach = daemon
            .client(client, &["attach", "talker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        attach.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        read_until(&mut follow, "second\n");
        assert!(follow.wait().unwrap().success(), "{client}");
        assert!(attach.wait().unwrap().success(), "{client}");
        daemon.cais(&["rm", "-f", "talker"]).unwrap();
    }
}

#[test]
fn logs_are_rotated_by_default_options() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "--name",
            "noisy",
            "--log-opt",
            "max-size=100k",
            "--log-opt",
            "max-file=2",
            "busybox",
            "seq",
            "1",
            "30000",
        ])
        .unwrap();
    let id = daemon.cais(&["inspect", "-f", "{{.Id}}", "noisy"]).unwrap();
    let path = daemon
        .cais(&["inspect", "-f", "{{.LogPath}}", "noisy"])
        .unwrap();
    assert!(path.trim().ends_with(&format!("{}-json.log", id.trim())));
    let size = |path: &str| std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
    let (current, rotated) = (path.trim().to_owned(), format!("{}.1", path.trim()));
    assert!(size(&current) <= 120_000 && size(&rotated) <= 120_000 && size(&rotated) > 0);
    assert!(!std::path::Path::new(&format!("{}.2", path.trim())).exists());
    assert!(
        daemon
            .cais(&["logs", "noisy"])
            .unwrap()
            .ends_with("29999\n30000\n")
    );
}

#[test]
fn events_are_streamed_with_attributes() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--name", "told", "busybox", "true"])
        .unwrap();
    daemon.cais(&["rm", "told"]).unwrap();
    // With its nanoseconds: a duration is cut to whole seconds, and would leave out what has just happened.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let args = [
        "events",
        "--since",
        "0",
        "--until",
        &until,
        "--filter",
        "container=told",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ];
    let docker = daemon.docker(&args).unwrap();
    for line in ["create told", "start told", "die told", "destroy told"] {
        assert!(
            docker.lines().any(|seen| seen == line),
            "{line} in {docker}"
        );
    }
    assert_eq!(daemon.cais(&args).unwrap(), docker);
}

#[test]
fn a_log_is_followed_across_rotation() {
    let daemon = daemon();
    let want: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    for client in CLIENTS {
        let script = "read go; seq 1 20000";
        let options = ["--log-opt", "max-size=50k", "--log-opt", "max-file=100"];
        let start = ["run", "-d", "-i", "--name", "turning"];
        let line = [&start[..], &options, &["busybox", "sh", "-c", script]].concat();
        daemon.cais(&line).unwrap();
        let follow = daemon
            .client(client, &["logs", "-f", "turning"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut attach = daemon
            .client(client, &["attach", "turning"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        attach.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let attached = attach.wait_with_output().unwrap();
        assert!(attached.stdout == want.as_bytes(), "attached with {client}");
        let followed = follow.wait_with_output().unwrap();
        assert!(followed.stdout == want.as_bytes(), "followed with {client}");
        assert!(daemon.cais(&["logs", "turning"]).unwrap() == want);
        daemon.cais(&["rm", "turning"]).unwrap();
    }
}

#[test]
fn an_attached_client_outlives_its_daemon() {
    let mut daemon = daemon();
    for client in CLIENTS {
        let script = "while read line; do echo got $line; done";
        daemon
            .cais(&[
                "run", "-d", "-i", "--name", "echo", "busybox", "sh", "-c", script,
            ])
            .unwrap();
        let mut attach = daemon
            .client(client, &["attach", "echo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut say = |word: &str| {
            let line = format!("{word}\n");
            let input = attach.stdin.as_mut().unwrap();
            input.write_all(line.as_bytes()).unwrap();
            read_until(&mut attach, &format!("got {word}\n"));
        };
        say("before");
        daemon.kill().unwrap();
        say("between");
        daemon.restart().unwrap();
        say("after");
        let logs = daemon.client(client, &["logs", "echo"]).output().unwrap();
        assert_eq!(logs.stdout, b"got before\ngot between\ngot after\n");
        daemon.cais(&["rm", "-f", "echo"]).unwrap();
        attach.wait().unwrap();
    }
}

#[test]
fn cve_2022_31030_cve_2022_23471_an_exec_that_nobody_reads_costs_no_memory() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    let mut exec = daemon
        .client("docker", &["exec", "box", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    read_until(&mut exec, "y\n");
    let resident = |pid: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    };
    let cpu = || {
        let ticks = daemon
            .docker(&["exec", "box", "cat", "/proc/2/stat"])
            .unwrap();
        ticks
            .split(' ')
            .skip(13)
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // The writer stands still when all buffers are full.
    let mut before = Vec::new();
    wait_until("the writer to be stopped by full pipes", || {
        std::mem::replace(&mut before, cpu()) == before
    });
    assert!(resident(daemon.pid()) < 100 << 10);
    exec.kill().unwrap();
    exec.wait().unwrap();
}
