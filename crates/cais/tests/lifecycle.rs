//! Create, start, stop, restart, wait, restart policies, names.

use std::process::{Command, Stdio};

use cais_testkit::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::{CAIS, daemon};

fn state(daemon: &cais_testkit::TestDaemon, name: &str, field: &str) -> String {
    daemon
        .cais(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), name])
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_container_goes_through_its_states() {
    let daemon = daemon();
    daemon
        .cais(&["create", "--name", "c", "busybox", "sleep", "1000"])
        .unwrap();
    assert_eq!(state(&daemon, "c", "Status"), "created");
    daemon.cais(&["start", "c"]).unwrap();
    assert_eq!(state(&daemon, "c", "Status"), "running");
    let pid = state(&daemon, "c", "Pid");
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
        "sleep\n"
    );
    daemon.cais(&["pause", "c"]).unwrap();
    assert_eq!(state(&daemon, "c", "Status"), "paused");
    daemon.cais(&["unpause", "c"]).unwrap();
    daemon.cais(&["kill", "-s", "TERM", "c"]).unwrap();
    daemon.cais(&["kill", "c"]).unwrap();
    assert_eq!(daemon.cais(&["wait", "c"]).unwrap(), "137\n");
    assert_eq!(state(&daemon, "c", "Status"), "exited");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    daemon.cais(&["rm", "c"]).unwrap();
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
}

#[test]
fn stop_sends_the_signal_first() {
    let daemon = daemon();
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    daemon
        .cais(&[
            "run", "-d", "--name", "polite", "busybox", "sh", "-c", script,
        ])
        .unwrap();
    wait_until("the trap", || {
        daemon.cais(&["logs", "polite"]).unwrap().contains("ready")
    });
    daemon.cais(&["stop", "polite"]).unwrap();
    assert_eq!(state(&daemon, "polite", "ExitCode"), "5");
    assert!(daemon.cais(&["logs", "polite"]).unwrap().ends_with("bye\n"));
}

#[test]
fn restart_policies_are_followed() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--restart",
            "on-failure:2",
            "--name",
            "failing",
            "busybox",
            "false",
        ])
        .unwrap();
    wait_until("two restarts", || {
        state(&daemon, "failing", "Status") == "exited"
            && daemon
                .cais(&["inspect", "-f", "{{.RestartCount}}", "failing"])
                .unwrap()
                == "2\n"
    });
    daemon
        .cais(&[
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            "always",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let first: i32 = state(&daemon, "always", "Pid").parse().unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    wait_until("a new process", || {
        state(&daemon, "always", "Status") == "running"
            && state(&daemon, "always", "Pid") != first.to_string()
    });
    daemon.cais(&["stop", "-t", "0", "always"]).unwrap();
    assert_eq!(state(&daemon, "always", "Status"), "exited");
}

#[test]
fn auto_removed_containers_are_gone_when_run_ends() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--rm", "--name", "brief", "busybox", "true"])
        .unwrap();
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    let left: Vec<_> = std::fs::read_dir(daemon.data_root().join("containers"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn signals_reach_the_container_through_run() {
    let daemon = daemon();
    let script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let child = daemon
        .client(
            CAIS,
            &["run", "--name", "proxied", "busybox", "sh", "-c", script],
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the trap", || {
        daemon
            .cais(&["logs", "proxied"])
            .is_ok_and(|log| log.contains("ready"))
    });
    kill_process(
        Pid::from_raw(child.id().cast_signed()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("got\n"));
}

#[test]
fn init_reaps_and_forwards() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--init",
            "--name",
            "parent",
            "busybox",
            "sh",
            "-c",
            "(sleep 0.01 &) ; exec sleep 1000",
        ])
        .unwrap();
    assert_eq!(
        daemon
            .cais(&["exec", "parent", "cat", "/proc/1/comm"])
            .unwrap(),
        "docker-init\n"
    );
    wait_until("no zombie", || {
        !daemon
            .cais(&["exec", "parent", "ps", "-o", "stat"])
            .unwrap()
            .contains('Z')
    });
    daemon.cais(&["stop", "-t", "20", "parent"]).unwrap();
    assert_eq!(state(&daemon, "parent", "ExitCode"), "143");
}

#[test]
fn the_cli_starts_a_daemon_when_none_runs() {
    let busybox = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs t /run; mount -t tmpfs t /var/lib; ip link set lo up; {CAIS} load -q -i {}; {CAIS} run --rm busybox echo started",
        busybox.display()
    );
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ])
        .env_remove("DOCKER_HOST")
        .env("DOCKER_CONFIG", "/no/such/config")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with("started\n"),
        "{error}"
    );
}
