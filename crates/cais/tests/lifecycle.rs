//! Create, start, stop, restart, wait, update, prune, names.

use std::process::{Child, Stdio};

use cais_testkit::{TestDaemon, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{CAIS, daemon, inspect, refused, state};

#[test]
fn a_container_goes_through_its_states() {
    let daemon = daemon();
    daemon
        .cais(&["create", "--name", "cycle", "busybox", "sleep", "1000"])
        .unwrap();
    assert_eq!(state(&daemon, "cycle", "Status"), "created");
    daemon.cais(&["start", "cycle"]).unwrap();
    assert_eq!(state(&daemon, "cycle", "Status"), "running");
    let pid = state(&daemon, "cycle", "Pid");
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
        "sleep\n"
    );
    daemon.cais(&["pause", "cycle"]).unwrap();
    assert_eq!(state(&daemon, "cycle", "Status"), "paused");
    daemon.cais(&["unpause", "cycle"]).unwrap();
    daemon.cais(&["kill", "-s", "TERM", "cycle"]).unwrap();
    daemon.cais(&["kill", "cycle"]).unwrap();
    assert_eq!(daemon.cais(&["wait", "cycle"]).unwrap(), "137\n");
    assert_eq!(state(&daemon, "cycle", "Status"), "exited");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    daemon.cais(&["rm", "cycle"]).unwrap();
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
fn auto_removed_containers_are_gone_when_run_ends() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--rm", "--name", "brief", "busybox", "true"])
        .unwrap();
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    assert_no_files(&daemon);
}

/// A container's files are removed when nobody waits for it any more.
fn assert_no_files(daemon: &TestDaemon) {
    wait_until("no files of containers", || {
        std::fs::read_dir(daemon.data_root().join("containers"))
            .unwrap()
            .count()
            == 0
    });
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
fn detached_containers_with_rm_go_at_their_end() {
    let daemon = daemon();
    let script = "while [ ! -e /go ]; do sleep 0.01; done; exit 7";
    daemon
        .cais(&[
            "run", "-d", "--rm", "--name", "brief", "-v", "/data", "busybox", "sh", "-c", script,
        ])
        .unwrap();
    let mut waiting = daemon.client(CAIS, &["wait", "brief"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    daemon.cais(&["exec", "brief", "touch", "/go"]).unwrap();
    assert_eq!(output(waiting), "7\n");
    wait_until("the removal", || {
        daemon.cais(&["ps", "-aq"]).unwrap().is_empty()
    });
    assert_eq!(daemon.cais(&["volume", "ls", "-q"]).unwrap(), "");
    assert_no_files(&daemon);
}

/// `POST /containers/NAME/wait` with a condition, as a client that prints the answer.
fn wait_for(daemon: &TestDaemon, name: &str, condition: &str) -> Child {
    std::process::Command::new("curl")
        .args(["-s", "-X", "POST", "--unix-socket"])
        .arg(daemon.socket())
        .arg(format!(
            "http://d/v1.47/containers/{name}/wait?condition={condition}"
        ))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(child: Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn wait_knows_three_conditions() {
    let daemon = daemon();
    daemon
        .cais(&[
            "create", "--name", "waited", "busybox", "sh", "-c", "exit 3",
        ])
        .unwrap();
    let ended = "{\"StatusCode\":3}";
    let idle = output(wait_for(&daemon, "waited", "not-running"));
    assert_eq!(idle.trim(), "{\"StatusCode\":0}");
    let mut next = wait_for(&daemon, "waited", "next-exit");
    let mut removed = wait_for(&daemon, "waited", "removed");
    // Neither answers while nothing happens: both are seen waiting in the daemon before the start.
    wait_until("two waiting connections", || established(&daemon) >= 2);
    assert!(next.try_wait().unwrap().is_none());
    daemon.cais(&["start", "waited"]).unwrap();
    assert_eq!(output(next).trim(), ended);
    assert_eq!(
        output(wait_for(&daemon, "waited", "not-running")).trim(),
        ended
    );
    assert!(removed.try_wait().unwrap().is_none());
    daemon.cais(&["rm", "waited"]).unwrap();
    assert_eq!(output(removed).trim(), ended);
    let missing = output(wait_for(&daemon, "waited", "removed"));
    assert!(missing.contains("No such container: waited"), "{missing}");
}

/// Connections of clients to the API socket.
fn established(daemon: &TestDaemon) -> usize {
    let socket = daemon.socket().to_string_lossy().into_owned();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let connected = |line: &&str| line.ends_with(&socket) && line.contains(" 0001 03 ");
    table.lines().filter(connected).count()
}

#[test]
fn names_can_be_changed() {
    let mut daemon = daemon();
    daemon
        .cais(&["create", "--name", "first", "busybox"])
        .unwrap();
    daemon
        .cais(&["create", "--name", "other", "busybox"])
        .unwrap();
    let error = refused(&daemon, &["rename", "first", "other"]);
    assert!(
        error.contains("The container name \"/other\" is already in use"),
        "{error}"
    );
    daemon.cais(&["rename", "first", "second"]).unwrap();
    daemon.restart().unwrap();
    assert_eq!(inspect(&daemon, "second", "{{.Name}}"), "/second");
    refused(&daemon, &["inspect", "first"]);
    daemon
        .cais(&["create", "--name", "first", "busybox"])
        .unwrap();
}

#[test]
fn limits_and_policies_of_a_running_container_are_changed() {
    let mut daemon = daemon();
    let limits = ["--memory", "64m", "--memory-swap", "128m"];
    let line = [
        &["run", "-d", "--name", "limited"][..],
        &limits,
        &["busybox", "sleep", "1000"],
    ];
    let id = daemon.cais(&line.concat()).unwrap();
    let limit = || {
        let parent = format!("/sys/fs/cgroup/memory/{}", daemon.name());
        let file = format!("{parent}/{}/memory.limit_in_bytes", id.trim());
        std::fs::read_to_string(file).unwrap()
    };
    assert_eq!(limit(), "67108864\n");
    daemon
        .cais(&[
            "update",
            "--memory",
            "96m",
            "--restart",
            "on-failure:3",
            "limited",
        ])
        .unwrap();
    assert_eq!(limit(), "100663296\n");
    daemon.restart().unwrap();
    let policy = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(
        inspect(&daemon, "limited", policy),
        "100663296 on-failure 3"
    );
    let error = refused(&daemon, &["update", "--memory", "256m", "limited"]);
    assert!(
        error.contains("should be smaller than already set memoryswap limit"),
        "{error}"
    );
    daemon
        .cais(&[
            "run", "-d", "--rm", "--name", "fleeting", "busybox", "sleep", "1000",
        ])
        .unwrap();
    let error = refused(&daemon, &["update", "--restart", "always", "fleeting"]);
    assert!(error.contains("AutoRemove is enabled"), "{error}");
}

#[test]
fn only_running_containers_take_execs() {
    let daemon = daemon();
    let id = daemon
        .cais(&["run", "-d", "--name", "host", "busybox", "sleep", "1000"])
        .unwrap();
    daemon.cais(&["pause", "host"]).unwrap();
    assert_eq!(
        refused(&daemon, &["exec", "host", "true"]),
        "Error response from daemon: Container host is paused, unpause the container before exec\n"
    );
    let error = refused(&daemon, &["start", "host"]);
    assert!(
        error.contains("cannot start a paused container, try unpause instead"),
        "{error}"
    );
    // A paused container is stopped all the same.
    daemon.cais(&["stop", "-t", "0", "host"]).unwrap();
    assert_eq!(
        refused(&daemon, &["exec", "host", "true"]),
        format!(
            "Error response from daemon: container {} is not running\n",
            id.trim()
        )
    );
}

#[test]
fn a_paused_container_takes_its_stop_signal() {
    let daemon = daemon();
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    daemon
        .cais(&[
            "run", "-d", "--name", "frozen", "busybox", "sh", "-c", script,
        ])
        .unwrap();
    wait_until("the trap", || {
        daemon.cais(&["logs", "frozen"]).unwrap().contains("ready")
    });
    daemon.cais(&["pause", "frozen"]).unwrap();
    daemon.cais(&["kill", "-s", "TERM", "frozen"]).unwrap();
    assert_eq!(daemon.cais(&["wait", "frozen"]).unwrap(), "6\n");
}

#[test]
fn start_attaches_and_tells_the_exit_code() {
    let daemon = daemon();
    let script = "echo out; echo err >&2; exit 12";
    daemon
        .cais(&["create", "--name", "shown", "busybox", "sh", "-c", script])
        .unwrap();
    for _ in 0..3 {
        let shown = daemon.cais_output(&["start", "-a", "shown"]).unwrap();
        assert_eq!(shown.status.code(), Some(12));
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "out\n");
        assert_eq!(String::from_utf8_lossy(&shown.stderr), "err\n");
    }
}

#[test]
fn restart_begins_anew_and_starts_what_has_ended() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "again", "busybox", "sleep", "1000"])
        .unwrap();
    let before = (
        state(&daemon, "again", "Pid"),
        state(&daemon, "again", "StartedAt"),
    );
    daemon.cais(&["restart", "-t", "0", "again"]).unwrap();
    let after = (
        state(&daemon, "again", "Pid"),
        state(&daemon, "again", "StartedAt"),
    );
    assert!(
        before.0 != after.0 && before.1 < after.1,
        "{before:?} {after:?}"
    );
    assert_eq!(state(&daemon, "again", "Status"), "running");
    daemon.cais(&["kill", "again"]).unwrap();
    daemon.cais(&["restart", "again"]).unwrap();
    assert_eq!(state(&daemon, "again", "Status"), "running");
    assert_eq!(inspect(&daemon, "again", "{{.RestartCount}}"), "0");
}

#[test]
fn prune_removes_what_does_not_run() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "kept", "busybox", "sleep", "1000"])
        .unwrap();
    let script = "head -c 100000 /dev/zero >/file";
    daemon
        .cais(&["run", "--name", "ended", "busybox", "sh", "-c", script])
        .unwrap();
    let ended = inspect(&daemon, "ended", "{{.Id}}");
    let created = daemon
        .cais(&["create", "--label", "keep=1", "busybox"])
        .unwrap();
    let pruned = daemon
        .cais(&["container", "prune", "-f", "--filter", "label!=keep"])
        .unwrap();
    assert_eq!(
        pruned,
        format!("Deleted Containers:\n{ended}\n\nTotal reclaimed space: 100kB\n")
    );
    let left = daemon.cais(&["ps", "-aq", "--no-trunc"]).unwrap();
    assert!(
        left.contains(created.trim()) && left.lines().count() == 2,
        "{left}"
    );
    assert_eq!(
        daemon.cais(&["container", "prune", "-f"]).unwrap(),
        format!("Deleted Containers:\n{created}\nTotal reclaimed space: 0B\n")
    );
}

#[test]
fn removing_while_it_ends_never_waits_in_vain() {
    let daemon = daemon();
    for round in 0..20 {
        let name = format!("ending{round}");
        let pause = format!("0.0{}", round % 10);
        daemon
            .cais(&[
                "run",
                "-d",
                "--name",
                &name,
                "--restart",
                "always",
                "busybox",
                "sleep",
                &pause,
            ])
            .unwrap();
        let begin = std::time::Instant::now();
        let verb = if round % 2 == 0 {
            &["rm", "-f"][..]
        } else {
            &["stop", "-t", "1"][..]
        };
        daemon.cais(&[verb, &[&name]].concat()).unwrap();
        assert!(
            begin.elapsed().as_secs() < 8,
            "{verb:?} waited for an end that was over"
        );
    }
}
