//! Limits, figures, device rules and groups of containers, on whichever cgroup version the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use cais_testkit::TestDaemon;

use crate::daemon;

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Runs a container that stays.
fn keep(daemon: &TestDaemon, name: &str, flags: &[&str], script: &str) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    daemon.cais(&args).unwrap();
}

/// The directories of a container's group, one per hierarchy that has it.
fn groups(daemon: &TestDaemon, name: &str) -> Vec<PathBuf> {
    let pid = daemon
        .cais(&["inspect", "-f", "{{.State.Pid}}", name])
        .unwrap();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let directories = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let root = match controllers {
            "" if is_v2() => String::new(),
            "" => "unified".to_owned(),
            named => named.trim_start_matches("name=").to_owned(),
        };
        let directory = Path::new("/sys/fs/cgroup")
            .join(root)
            .join(path.trim_start_matches('/'));
        (path != "/" && directory.exists()).then_some(directory)
    });
    directories.collect()
}

/// The limits as the container sees them: memory, memory and swap, processes, quota, shares, processors.
fn limits(daemon: &TestDaemon, name: &str) -> String {
    let script = match is_v2() {
        true => {
            "cd /sys/fs/cgroup && cat memory.max memory.swap.max pids.max cpu.max cpu.weight cpuset.cpus"
        }
        false => {
            "cd /sys/fs/cgroup && cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus"
        }
    };
    let text = daemon.cais(&["exec", name, "sh", "-c", script]).unwrap();
    text.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn update_changes_the_limits_of_a_running_container() {
    let daemon = daemon();
    let flags = [
        "-m",
        "64m",
        "--memory-swap",
        "80m",
        "--pids-limit",
        "50",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
    ];
    keep(&daemon, "box", &flags, "exec sleep 1000");
    let expected = match is_v2() {
        true => "67108864 16777216 50 50000 100000 59 0",
        false => "67108864 83886080 50 50000 512 0",
    };
    assert_eq!(limits(&daemon, "box"), expected);
    daemon
        .cais(&[
            "update",
            "-m",
            "96m",
            "--memory-swap",
            "160m",
            "--pids-limit",
            "80",
            "--cpus",
            "1.5",
            "--cpu-shares",
            "2048",
            "--cpuset-cpus",
            "0-1",
            "box",
        ])
        .unwrap();
    let expected = match is_v2() {
        true => "100663296 67108864 80 150000 100000 174 0-1",
        false => "100663296 167772160 80 150000 2048 0-1",
    };
    assert_eq!(limits(&daemon, "box"), expected);
    // They hold for the next start as well.
    daemon.cais(&["restart", "-t", "0", "box"]).unwrap();
    assert_eq!(limits(&daemon, "box"), expected);
}

#[test]
fn stats_tell_of_memory_and_processes() {
    let daemon = daemon();
    let script = "dd if=/dev/zero of=/dev/shm/twenty bs=1M count=20; sleep 1000 & sleep 1000 & echo ready; wait";
    keep(&daemon, "box", &["-m", "128m"], script);
    cais_testkit::wait_until("the file", || {
        daemon.cais(&["logs", "box"]).unwrap().contains("ready\n")
    });
    let format = "{{.Name}} {{.PIDs}} {{.MemUsage}}";
    let text = daemon
        .cais(&["stats", "--no-stream", "--format", format, "box"])
        .unwrap();
    let used = text
        .strip_prefix("box 3 ")
        .and_then(|rest| rest.trim().strip_suffix("MiB / 128MiB"))
        .unwrap_or_else(|| panic!("{text:?}"));
    let used: f64 = used.parse().unwrap();
    assert!((20.0..40.0).contains(&used), "{text}");
    let top = daemon.cais(&["top", "box", "-o", "pid,args"]).unwrap();
    assert_eq!(
        top.lines()
            .filter(|line| line.ends_with(" sleep 1000"))
            .count(),
        2,
        "{top}"
    );
}

#[test]
fn a_process_killed_for_memory_is_told_though_the_container_goes_on() {
    let daemon = daemon();
    let script = "tail /dev/zero; echo survived $?; exec sleep 1000";
    let flags = ["-m", "32m", "--memory-swap", "32m"];
    keep(&daemon, "box", &flags, script);
    cais_testkit::wait_until("the kill", || {
        daemon
            .cais(&["logs", "box"])
            .unwrap()
            .contains("survived 137")
    });
    daemon.cais(&["kill", "box"]).unwrap();
    let state = "{{.State.ExitCode}} {{.State.OOMKilled}}";
    assert_eq!(
        daemon.cais(&["inspect", "-f", state, "box"]).unwrap(),
        "137 true\n"
    );
}

#[test]
fn devices_open_only_as_allowed() {
    let daemon = daemon();
    let opened = |flags: &[&str], script: &str| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend(["busybox", "sh", "-c", script]);
        daemon.cais_output(&args).unwrap().status.success()
    };
    // Opening the kernel's log for writing wants no capability, so that only the device rules can refuse it.
    let made = "mknod /tmp/log c 1 11 && : > /tmp/log";
    assert!(!opened(&[], made));
    assert!(opened(&["--device-cgroup-rule", "c 1:11 w"], made));
    assert!(!opened(&["--device-cgroup-rule", "c 1:11 r"], made));
    assert!(opened(&["--privileged"], made));
    assert!(opened(&["--privileged"], ": > /dev/kmsg"));
    let given = ["--device", "/dev/kmsg:/dev/given:w"];
    assert!(opened(&given, ": > /dev/given"));
    assert!(!opened(&given, ": < /dev/given"));
    assert!(opened(
        &[],
        ": < /dev/zero && : > /dev/null && : > /dev/ptmx"
    ));
}

#[test]
fn groups_made_inside_go_with_the_container() {
    let daemon = daemon();
    // On v2 the container manages its group as systemd does: its processes leave the top, which hands controllers down.
    let script = match is_v2() {
        true => {
            "cd /sys/fs/cgroup && mkdir -p sub/deep && echo $$ > sub/deep/cgroup.procs && echo +pids > cgroup.subtree_control && echo ready; exec sleep 1000"
        }
        false => {
            "cd /sys/fs/cgroup/pids && mkdir -p sub/deep && echo $$ > sub/deep/cgroup.procs && echo ready; exec sleep 1000"
        }
    };
    keep(&daemon, "box", &["--privileged"], script);
    cais_testkit::wait_until("the groups", || {
        daemon.cais(&["logs", "box"]).unwrap().contains("ready\n")
    });
    let own: Vec<PathBuf> = groups(&daemon, "box")
        .into_iter()
        .map(|group| match group.ends_with("sub/deep") {
            true => group.ancestors().nth(2).unwrap().to_owned(),
            false => group,
        })
        .collect();
    assert!(!own.is_empty());
    assert!(own.iter().any(|group| group.join("sub/deep").exists()));
    assert_eq!(daemon.cais(&["exec", "box", "echo", "in"]).unwrap(), "in\n");
    daemon.cais(&["pause", "box"]).unwrap();
    daemon.cais(&["unpause", "box"]).unwrap();
    let listed = daemon.cais(&["top", "box"]).unwrap();
    assert!(listed.contains("sleep 1000"), "{listed}");
    daemon.cais(&["rm", "-f", "box"]).unwrap();
    for group in own {
        assert!(!group.exists(), "{}", group.display());
    }
}

#[test]
fn a_parent_group_can_be_chosen() {
    let daemon = daemon();
    let parent = format!("/{}-own/below", daemon.name());
    let flags = ["--cgroup-parent", &parent, "-m", "64m"];
    keep(&daemon, "box", &flags, "exec sleep 1000");
    let own = groups(&daemon, "box");
    let wanted = parent.trim_start_matches('/');
    for group in &own {
        assert!(
            group.parent().unwrap().ends_with(wanted),
            "{}",
            group.display()
        );
    }
    let memory = match is_v2() {
        true => "memory.max",
        false => "memory.limit_in_bytes",
    };
    let limit = own
        .iter()
        .find_map(|group| fs::read_to_string(group.join(memory)).ok());
    assert_eq!(limit.as_deref(), Some("67108864\n"));
    daemon.cais(&["rm", "-f", "box"]).unwrap();
    for group in &own {
        assert!(!group.exists());
        // The parents are the user's; the test takes its own away.
        let parent = group.parent().unwrap();
        fs::remove_dir(parent).unwrap();
        fs::remove_dir(parent.parent().unwrap()).unwrap();
    }
}

#[test]
fn paused_processes_stand_still() {
    let daemon = daemon();
    let script = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.01; done";
    keep(&daemon, "box", &[], script);
    let pid = daemon
        .cais(&["inspect", "-f", "{{.State.Pid}}", "box"])
        .unwrap();
    let path = format!("/proc/{}/root/dev/shm/count", pid.trim());
    let count = || fs::read_to_string(&path).unwrap_or_default();
    cais_testkit::wait_until("the count", || !count().is_empty());
    daemon.cais(&["pause", "box"]).unwrap();
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(count(), before);
    let refused = daemon.cais_output(&["exec", "box", "true"]).unwrap();
    assert!(
        String::from_utf8_lossy(&refused.stderr)
            .contains("is paused, unpause the container before exec")
    );
    daemon.cais(&["unpause", "box"]).unwrap();
    cais_testkit::wait_until("the count to go on", || count() != before);
    // A paused container can be ended.
    daemon.cais(&["pause", "box"]).unwrap();
    daemon.cais(&["rm", "-f", "box"]).unwrap();
}
