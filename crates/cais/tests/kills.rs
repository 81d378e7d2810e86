//! kill -9 of the daemon and of monitors: no line, no exit code and no kernel object is lost or left.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use cais_testkit::{TestDaemon, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::network_deaths::translated;
use crate::{CAIS, daemon, inspect};

/// What the kernel and the disk hold for this daemon's containers: processes, mounts, links, cgroups, sockets, files.
pub fn leftovers(daemon: &TestDaemon) -> Vec<String> {
    let mut found = Vec::new();
    let root = daemon.scratch().to_string_lossy().into_owned();
    let monitors = daemon
        .exec_root()
        .join("monitors")
        .to_string_lossy()
        .into_owned();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    found.extend(
        sockets
            .lines()
            .filter(|line| line.contains(&monitors))
            .map(|line| format!("monitor {line}")),
    );
    for directory in [monitors.into(), daemon.data_root().join("containers")] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&root))
            .map(|line| format!("mount {line}")),
    );
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(command) = fs::read_to_string(entry.path().join("cmdline")) else {
            continue;
        };
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&format!("/{}/", daemon.name())) {
            found.push(format!("process {} {command}", entry.path().display()));
        }
    }
    for controller in ["memory", "pids", "devices", "freezer"] {
        let parent = format!("/sys/fs/cgroup/{controller}/{}", daemon.name());
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                found.push(format!("cgroup {}", entry.path().display()));
            }
        }
    }
    for entry in fs::read_dir("/sys/class/net").unwrap().flatten() {
        let master = fs::read_link(entry.path().join("master")).unwrap_or_default();
        if master.to_string_lossy().ends_with(&daemon.name()) {
            found.push(format!("link {}", entry.path().display()));
        }
    }
    let ports = translated(daemon).into_iter();
    found.extend(ports.map(|port| format!("port {port}")));
    found
}

/// A connection whose end nobody acknowledges keeps its namespace, and with it an interface, for as long as the kernel sends
/// that end again: two minutes at most (tcp(7), tcp_orphan_retries).
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

pub fn assert_nothing_left(daemon: &TestDaemon) {
    let mut last = Vec::new();
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        last = leftovers(daemon);
        if last.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("left over: {last:#?}");
}

/// The monitor is the parent of the container's init.
pub fn monitor_of(init: i32) -> Pid {
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Pid::from_raw(parent.unwrap().trim().parse().unwrap()).unwrap()
}

/// Whether a process runs; one that has ended may wait for its new parent to take notice.
fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

#[test]
fn containers_print_exec_and_exit_while_the_daemon_is_dead() {
    let mut daemon = daemon();
    let script = "for i in $(seq 1 300); do echo line $i; sleep 0.01; done; exit 23";
    daemon
        .cais(&[
            "run", "-d", "--name", "printer", "busybox", "sh", "-c", script,
        ])
        .unwrap();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "lasting",
            "-p",
            "127.0.0.1::80",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let port = daemon.cais(&["port", "lasting"]).unwrap();
    let mut attached = daemon
        .client(CAIS, &["attach", "printer"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(attached.stdout.take().unwrap());
    let mut seen = String::new();
    output.read_line(&mut seen).unwrap();
    assert!(seen.starts_with("line "), "attached: {seen:?}");
    daemon.kill().unwrap();
    output.read_to_string(&mut seen).unwrap();
    attached.wait().unwrap();
    assert!(
        seen.ends_with("line 300\n"),
        "the attached client saw the end"
    );
    daemon.restart().unwrap();
    assert_eq!(daemon.cais(&["wait", "printer"]).unwrap(), "23\n");
    let lines: Vec<String> = (1..=300).map(|n| format!("line {n}")).collect();
    assert_eq!(
        daemon
            .cais(&["logs", "printer"])
            .unwrap()
            .lines()
            .collect::<Vec<_>>(),
        lines
    );
    assert_eq!(
        daemon.cais(&["ps", "--format", "{{.Names}}"]).unwrap(),
        "lasting\n"
    );
    assert_eq!(
        daemon.cais(&["exec", "lasting", "echo", "alive"]).unwrap(),
        "alive\n"
    );
    assert_eq!(daemon.cais(&["port", "lasting"]).unwrap(), port);
    daemon.cais(&["rm", "-f", "printer", "lasting"]).unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn an_exec_goes_on_while_the_daemon_is_dead() {
    let mut daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    let exec = daemon
        .client(
            CAIS,
            &[
                "exec",
                "box",
                "sh",
                "-c",
                "echo begun; while [ ! -e /go ]; do sleep 0.01; done; echo done; exit 4",
            ],
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the exec", || {
        daemon.cais(&["top", "box"]).unwrap().contains("begun")
    });
    daemon.restart().unwrap();
    daemon.cais(&["exec", "box", "touch", "/go"]).unwrap();
    let output = exec.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "begun\ndone\n");
    assert_eq!(
        daemon
            .cais(&["inspect", "-f", "{{.State.Running}}", "box"])
            .unwrap(),
        "true\n"
    );
}

#[test]
fn a_killed_monitor_takes_its_container_along() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "orphan", "busybox", "sleep", "1000"])
        .unwrap();
    let pid: i32 = daemon
        .cais(&["inspect", "-f", "{{.State.Pid}}", "orphan"])
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill_process(monitor_of(pid), Signal::KILL).unwrap();
    assert_eq!(daemon.cais(&["wait", "orphan"]).unwrap(), "137\n");
    assert!(!lives(pid));
    daemon.cais(&["rm", "orphan"]).unwrap();
    assert_nothing_left(&daemon);
}

/// What a round's containers have come to after the daemon's death, and their end. The one with `--rm` has a name of the
/// daemon's choice and may go at any moment.
fn settle(daemon: &TestDaemon, round: &str) {
    let listed = daemon
        .cais(&["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .unwrap();
    for line in listed.lines().filter(|line| line.starts_with(round)) {
        let (container, state) = line.split_once(' ').unwrap();
        assert!(!["dead", "removing"].contains(&state), "{listed}");
        if container == round && inspect(daemon, container, "{{.State.Running}}") == "true" {
            assert_eq!(daemon.cais(&["wait", container]).unwrap(), "3\n", "{line}");
        }
        daemon.cais(&["rm", "-f", container]).unwrap();
    }
    wait_until("the round's containers to be gone", || {
        let all = daemon
            .cais(&["ps", "-a", "--format", "{{.Names}}"])
            .unwrap();
        let others: Vec<_> = all.lines().filter(|name| *name != "lasting").collect();
        for name in &others {
            let _ = daemon.cais(&["rm", "-f", name]);
        }
        others.is_empty()
    });
}

#[test]
fn random_kills_leave_nothing() {
    let rounds: u32 = std::env::var("CAIS_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(15);
    let mut daemon = daemon();
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done";
    daemon
        .cais(&[
            "run", "-d", "--name", "lasting", "busybox", "sh", "-c", script,
        ])
        .unwrap();
    let pid = inspect(&daemon, "lasting", "{{.State.Pid}}");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    for round in 0..rounds {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let name = format!("round{round}");
        let mut clients: Vec<_> = [
            &[
                "run",
                "-d",
                "--name",
                &name,
                "-p",
                "80",
                "busybox",
                "sh",
                "-c",
                "echo one; sleep 0.02; exit 3",
            ][..],
            &["run", "--rm", "busybox", "true"],
            &[
                "run",
                "--name",
                &format!("{name}b"),
                "busybox",
                "seq",
                "1000",
            ],
        ]
        .into_iter()
        .map(|args| {
            daemon
                .client(CAIS, args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
        std::thread::sleep(std::time::Duration::from_micros(seed % 60_000));
        daemon.restart().unwrap();
        for client in &mut clients {
            client.wait().unwrap();
        }
        settle(&daemon, &name);
    }
    assert_eq!(inspect(&daemon, "lasting", "{{.State.Pid}}"), pid);
    let log = daemon.cais(&["logs", "lasting"]).unwrap();
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line, number.to_string(), "a line is lost or told twice");
    }
    daemon.cais(&["rm", "-f", "lasting"]).unwrap();
    assert_nothing_left(&daemon);
}
