//! What users remember of crashes: paused containers that woke up, ports that stayed taken, lists and execs that hang.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cais_testkit::{TestDaemon, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::kills::{assert_nothing_left, monitor_of};
use crate::networks::free_ports;
use crate::{CAIS, daemon, inspect, refused, state};

fn run(daemon: &TestDaemon, name: &str, more: &[&str]) -> i32 {
    let line = [
        &["run", "-d", "--name", name],
        more,
        &["busybox", "sleep", "1000"],
    ]
    .concat();
    daemon.cais(&line).unwrap();
    state(daemon, name, "Pid").parse().unwrap()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The exit code, or `None` when the child does not end within 20 seconds.
fn ends(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Whether the kernel keeps a container's processes from running, by whichever version of cgroups.
fn is_frozen(daemon: &TestDaemon, name: &str) -> bool {
    let cgroup = format!("{}/{}", daemon.name(), inspect(daemon, name, "{{.Id}}"));
    ["unified/", ""].iter().any(|root| {
        let events = format!("/sys/fs/cgroup/{root}{cgroup}/cgroup.events");
        std::fs::read_to_string(events).is_ok_and(|events| events.contains("frozen 1"))
    }) || std::fs::read_to_string(format!("/sys/fs/cgroup/freezer/{cgroup}/freezer.state"))
        .is_ok_and(|state| state == "FROZEN\n")
}

#[test]
fn a_paused_container_stays_paused() {
    let mut daemon = daemon();
    let pid = run(&daemon, "frozen", &[]);
    daemon.cais(&["pause", "frozen"]).unwrap();
    daemon.restart().unwrap();
    assert_eq!(state(&daemon, "frozen", "Status"), "paused");
    assert!(is_frozen(&daemon, "frozen"));
    daemon.cais(&["unpause", "frozen"]).unwrap();
    assert!(!is_frozen(&daemon, "frozen"));
    assert_eq!(state(&daemon, "frozen", "Pid"), pid.to_string());
    assert_eq!(
        daemon.cais(&["exec", "frozen", "echo", "awake"]).unwrap(),
        "awake\n"
    );
    daemon.cais(&["pause", "frozen"]).unwrap();
    daemon.restart().unwrap();
    daemon.cais(&["rm", "-f", "frozen"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn containers_that_end_during_the_restore_keep_their_codes() {
    let mut daemon = daemon();
    for round in 0..4 {
        let names: Vec<String> = (0..8)
            .map(|number| format!("ending{round}-{number}"))
            .collect();
        for (number, name) in names.iter().enumerate() {
            let script = format!(
                "while [ ! -e /go/{round} ]; do sleep 0.01; done; sleep 0.0{number}; exit {number}"
            );
            let go = format!("{}:/go", daemon.scratch().display());
            daemon
                .cais(&[
                    "run", "-d", "-v", &go, "--name", name, "busybox", "sh", "-c", &script,
                ])
                .unwrap();
        }
        daemon.kill().unwrap();
        std::fs::write(daemon.scratch().join(round.to_string()), "").unwrap();
        daemon.restart().unwrap();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(daemon.cais(&["wait", name]).unwrap(), format!("{number}\n"));
        }
        let mut line = vec!["rm"];
        line.extend(names.iter().map(String::as_str));
        daemon.cais(&line).unwrap();
    }
    assert_nothing_left(&daemon);
}

#[test]
fn everything_dead_at_once_leaves_ports_and_codes_right() {
    let mut daemon = daemon();
    let publish = format!("127.0.0.1:{}:80", free_ports(&daemon, 1));
    let pid = run(&daemon, "first", &["-p", &publish]);
    let monitor = monitor_of(pid);
    daemon.kill().unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
    daemon.restart().unwrap();
    assert_eq!(state(&daemon, "first", "Status"), "exited");
    assert_eq!(state(&daemon, "first", "ExitCode"), "137");
    run(&daemon, "second", &["-p", &publish]);
    let error = refused(
        &daemon,
        &["run", "--name", "third", "-p", &publish, "busybox", "true"],
    );
    assert!(error.contains("port is already allocated"), "{error}");
    daemon.restart().unwrap();
    let error = refused(&daemon, &["start", "third"]);
    assert!(error.contains("port is already allocated"), "{error}");
    daemon.cais(&["rm", "-f", "second"]).unwrap();
    daemon.cais(&["start", "-a", "third"]).unwrap();
    daemon.cais(&["rm", "-f", "first", "third"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn references_and_networks_survive_restarts() {
    let mut daemon = daemon();
    daemon.cais(&["network", "create", "own"]).unwrap();
    run(
        &daemon,
        "user",
        &[
            "-v",
            "data:/data",
            "--network",
            "own",
            "-p",
            "127.0.0.1::80",
        ],
    );
    let rules = |daemon: &TestDaemon| {
        let list = std::process::Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        let text = String::from_utf8(list.stdout).unwrap();
        let start = text.find(&format!("table ip {} ", daemon.name())).unwrap();
        text[start..].split("\n}").next().unwrap().lines().count()
    };
    let before = rules(&daemon);
    for _ in 0..5 {
        daemon.restart().unwrap();
    }
    assert_eq!(rules(&daemon), before);
    let error = refused(&daemon, &["volume", "rm", "data"]);
    assert!(error.contains("volume is in use"), "{error}");
    let error = refused(&daemon, &["network", "rm", "own"]);
    assert!(error.contains("has active endpoints"), "{error}");
    let networks = daemon
        .cais(&["network", "ls", "--format", "{{.Name}}"])
        .unwrap();
    assert_eq!(networks, "bridge\nhost\nnone\nown\n");
    let address = inspect(
        &daemon,
        "user",
        "{{.NetworkSettings.Networks.own.IPAddress}}",
    );
    let ping = [
        "run",
        "--rm",
        "--network",
        "own",
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
    ];
    daemon.cais(&[&ping[..], &[&address]].concat()).unwrap();
    daemon.cais(&["rm", "-f", "user"]).unwrap();
    daemon.cais(&["network", "rm", "own"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn a_container_whose_monitor_hangs_holds_up_nobody_else() {
    let mut daemon = daemon();
    let stuck = run(&daemon, "stuck", &[]);
    run(&daemon, "other", &[]);
    let monitor = monitor_of(stuck);
    kill_process(monitor, Signal::STOP).unwrap();
    let mut stopping = daemon.client(CAIS, &["stop", "-t", "0", "stuck"]);
    let mut stopping = stopping
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    assert_eq!(
        daemon
            .cais(&["ps", "--format", "{{.Names}}"])
            .unwrap()
            .lines()
            .count(),
        2
    );
    assert_eq!(state(&daemon, "stuck", "Status"), "running");
    assert_eq!(
        daemon.cais(&["exec", "other", "echo", "hi"]).unwrap(),
        "hi\n"
    );
    daemon.cais(&["run", "--rm", "busybox", "true"]).unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    daemon.restart().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(state(&daemon, "stuck", "Status"), "running");
    kill_process(monitor, Signal::CONT).unwrap();
    stopping.wait().unwrap();
    daemon.cais(&["stop", "-t", "0", "stuck"]).unwrap();
    assert_eq!(state(&daemon, "stuck", "Status"), "exited");
    daemon.cais(&["rm", "-f", "stuck", "other"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn execs_at_the_moment_of_the_end_never_hang() {
    let daemon = daemon();
    for round in 0..10 {
        let name = format!("brief{round}");
        let pause = format!("0.0{round}");
        daemon
            .cais(&["run", "-d", "--name", &name, "busybox", "sleep", &pause])
            .unwrap();
        let mut execs: Vec<Child> = (0..6)
            .map(|_| {
                let mut command = daemon.client(CAIS, &["exec", &name, "sleep", "0.01"]);
                command.stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for exec in &mut execs {
            let code = ends(exec).expect("an exec hangs");
            assert!([0, 1, 126, 128, 137].contains(&code), "{code}");
        }
        assert_eq!(daemon.cais(&["wait", &name]).unwrap(), "0\n");
        daemon.cais(&["rm", &name]).unwrap();
    }
    assert_nothing_left(&daemon);
}

#[test]
fn an_exec_that_leaves_a_child_behind_ends() {
    let daemon = daemon();
    run(&daemon, "host", &[]);
    for _ in 0..2 {
        let mut command = daemon.client(CAIS, &["exec", "host", "sh", "-c", "sleep 900 &"]);
        let mut exec = command.stdout(Stdio::null()).spawn().unwrap();
        assert_eq!(ends(&mut exec), Some(0));
    }
    daemon.cais(&["rm", "-f", "host"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn starts_that_fail_leave_nothing() {
    let daemon = daemon();
    run(&daemon, "busy", &["-p", "127.0.0.1::80"]);
    let port = daemon.cais(&["port", "busy", "80"]).unwrap();
    let publish = format!("{}:80", port.trim());
    daemon.cais(&["rm", "-f", "busy"]).unwrap();
    run(&daemon, "busy", &["-p", &publish]);
    for _ in 0..10 {
        for line in [
            &["run", "--rm", "busybox", "/no/such/program"][..],
            &["run", "--rm", "-p", &publish, "busybox", "true"],
            &["run", "--rm", "-w", "/etc/passwd", "busybox", "true"],
            &["run", "--rm", "-u", "nobody-knows", "busybox", "true"],
            &[
                "run",
                "--rm",
                "--ipc",
                "shareable",
                "--sysctl",
                "net.no.such=1",
                "busybox",
                "true",
            ],
        ] {
            refused(&daemon, line);
        }
    }
    daemon.cais(&["rm", "-f", "busy"]).unwrap();
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    assert_nothing_left(&daemon);
}

#[test]
fn a_lost_container_is_started_again_by_its_policy() {
    let mut daemon = daemon();
    let first = run(&daemon, "wanted", &["--restart", "always"]);
    kill_process(monitor_of(first), Signal::KILL).unwrap();
    let again = |daemon: &TestDaemon, before: i32| {
        wait_until("a new process", || {
            let pid: i32 = state(daemon, "wanted", "Pid").parse().unwrap();
            pid != before && pid != 0
        });
        state(daemon, "wanted", "Pid").parse::<i32>().unwrap()
    };
    let second = again(&daemon, first);
    daemon.kill().unwrap();
    kill(second);
    daemon.restart().unwrap();
    again(&daemon, second);
    daemon.cais(&["rm", "-f", "wanted"]).unwrap();
    assert_nothing_left(&daemon);
}
