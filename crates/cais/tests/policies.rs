//! Restart policies and health checks.

use cais_testkit::{TestDaemon, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{daemon, inspect, state};

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
fn the_delay_between_restarts_doubles() {
    let daemon = daemon();
    let script = "echo up; exit 1";
    daemon
        .cais(&[
            "run",
            "-d",
            "--restart",
            "on-failure:4",
            "--name",
            "failing",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .unwrap();
    wait_until("the last try", || {
        state(&daemon, "failing", "Status") == "exited"
            && inspect(&daemon, "failing", "{{.RestartCount}}") == "4"
    });
    let log = daemon.cais(&["logs", "-t", "failing"]).unwrap();
    let moments: Vec<f64> = log.lines().map(seconds).collect();
    let delays: Vec<f64> = moments
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).rem_euclid(3600.0))
        .collect();
    assert_eq!(delays.len(), 4, "{log}");
    for (delay, least) in delays.iter().zip([0.1, 0.2, 0.4, 0.8]) {
        assert!((least..least + 3.0).contains(delay), "{delays:?}");
    }
}

/// Seconds within the hour of a line that begins with a time of RFC 3339.
fn seconds(line: &str) -> f64 {
    let time = line.split('Z').next().unwrap();
    let mut parts = time.rsplit(':');
    let seconds: f64 = parts.next().unwrap().parse().unwrap();
    let minutes: f64 = parts.next().unwrap().parse().unwrap();
    minutes * 60.0 + seconds
}

fn count(daemon: &TestDaemon) -> u32 {
    inspect(daemon, "failing", "{{.RestartCount}}")
        .parse()
        .unwrap()
}

#[test]
fn a_stop_ends_the_wait_for_the_next_restart() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            "failing",
            "busybox",
            "false",
        ])
        .unwrap();
    wait_until("a long delay", || {
        count(&daemon) >= 3 && state(&daemon, "failing", "Status") == "restarting"
    });
    daemon.cais(&["stop", "failing"]).unwrap();
    assert_eq!(state(&daemon, "failing", "Status"), "exited");
    let before = count(&daemon);
    daemon.cais(&["start", "failing"]).unwrap();
    assert!(count(&daemon) < before, "a start counts anew");
}

fn run(daemon: &TestDaemon, name: &str, policy: &str) {
    daemon
        .cais(&[
            "run",
            "-d",
            "--restart",
            policy,
            "--name",
            name,
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
}

#[test]
fn policies_hold_over_a_restart_of_the_daemon() {
    let mut daemon = daemon();
    for (name, policy) in [
        ("stopped", "unless-stopped"),
        ("stopped-always", "always"),
        ("killed", "unless-stopped"),
        ("failed", "on-failure"),
        ("left", "no"),
    ] {
        run(&daemon, name, policy);
    }
    daemon
        .cais(&["stop", "-t", "0", "stopped", "stopped-always"])
        .unwrap();
    let pids: Vec<String> = ["killed", "failed", "left"]
        .map(|name| state(&daemon, name, "Pid"))
        .into();
    daemon.kill().unwrap();
    for pid in &pids {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    daemon.restart().unwrap();
    for name in ["killed", "failed", "stopped-always"] {
        wait_until(name, || state(&daemon, name, "Status") == "running");
        assert!(!pids.contains(&state(&daemon, name, "Pid")));
    }
    assert_eq!(state(&daemon, "stopped", "Status"), "exited");
    assert_eq!(state(&daemon, "left", "Status"), "exited");
    assert_eq!(state(&daemon, "left", "ExitCode"), "137");
    // What the user starts again counts as not stopped.
    daemon.cais(&["start", "stopped"]).unwrap();
    daemon.restart().unwrap();
    assert_eq!(state(&daemon, "stopped", "Status"), "running");
}

#[test]
fn health_is_probed_and_told() {
    let mut daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "probed",
            "--health-cmd",
            "echo asked; test -e /well",
            "--health-interval",
            "50ms",
            "--health-retries",
            "2",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let health = |daemon: &TestDaemon| state(daemon, "probed", "Health.Status");
    wait_until("unhealthy", || health(&daemon) == "unhealthy");
    let probe = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    assert_eq!(inspect(&daemon, "probed", probe), "1 asked");
    daemon.cais(&["exec", "probed", "touch", "/well"]).unwrap();
    wait_until("healthy", || health(&daemon) == "healthy");
    let status = daemon.cais(&["ps", "--format", "{{.Status}}"]).unwrap();
    assert!(status.ends_with("(healthy)\n"), "{status}");
    assert_eq!(
        daemon
            .cais(&["ps", "-q", "--filter", "health=unhealthy"])
            .unwrap(),
        ""
    );
    daemon.restart().unwrap();
    daemon.cais(&["exec", "probed", "rm", "/well"]).unwrap();
    wait_until("unhealthy again", || health(&daemon) == "unhealthy");
}

#[test]
fn a_probe_that_hangs_fails_and_leaves_no_process() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "probed",
            "--health-cmd",
            "sleep 900",
            "--health-timeout",
            "100ms",
            "--health-interval",
            "50ms",
            "--health-retries",
            "1",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    wait_until("unhealthy", || {
        state(&daemon, "probed", "Health.Status") == "unhealthy"
    });
    let probe = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    let result = inspect(&daemon, "probed", probe);
    assert!(
        result.starts_with("-1 Health check exceeded timeout"),
        "{result}"
    );
    wait_until("at most one probe", || {
        daemon
            .cais(&["top", "probed"])
            .unwrap()
            .matches("sleep 900")
            .count()
            <= 1
    });
}
