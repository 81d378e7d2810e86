//! The security baseline, looked at from inside a container.

use crate::daemon;

fn inside(daemon: &cais_testkit::TestDaemon, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    daemon.cais(&args).unwrap()
}

#[test]
fn capabilities_seccomp_and_privileges() {
    let daemon = daemon();
    let status = inside(&daemon, &[], "cat /proc/self/status");
    let field = |status: &str, name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(field(&status, "CapEff:"), "00000000a80425fb");
    assert_eq!(field(&status, "CapBnd:"), "00000000a80425fb");
    assert_eq!(field(&status, "CapInh:"), "0000000000000000");
    assert_eq!(field(&status, "CapAmb:"), "0000000000000000");
    assert_eq!(field(&status, "Seccomp:"), "2");
    assert_eq!(field(&status, "NoNewPrivs:"), "0");
    let status = inside(
        &daemon,
        &[
            "--security-opt",
            "no-new-privileges",
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CHOWN",
        ],
        "cat /proc/self/status",
    );
    assert_eq!(field(&status, "CapEff:"), "0000000000000001");
    assert_eq!(field(&status, "NoNewPrivs:"), "1");
    let status = inside(&daemon, &["-u", "1000:1000"], "cat /proc/self/status");
    assert_eq!(field(&status, "CapEff:"), "0000000000000000");
    let status = inside(
        &daemon,
        &["--security-opt", "seccomp=unconfined"],
        "cat /proc/self/status",
    );
    assert_eq!(field(&status, "Seccomp:"), "0");
}

#[test]
fn masked_and_read_only_paths() {
    let daemon = daemon();
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do wc -c < $f; done; ls /proc/acpi /sys/firmware /proc/scsi 2>/dev/null | grep -v ':$' | grep . | wc -l;
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/profiling; do
            (echo x > $f) 2>/dev/null && echo wrote $f; done; true";
    assert_eq!(inside(&daemon, &[], script), "0\n0\n0\n0\n");
    let mounts = inside(&daemon, &[], "cat /proc/self/mountinfo");
    let options = |target: &str| {
        mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(target))
            .unwrap_or_else(|| panic!("{target} in {mounts}"))
            .to_owned()
    };
    assert!(options("/sys").contains(" ro,nosuid,nodev,noexec"));
    for target in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        assert!(options(target).contains(" ro,"), "{target}");
    }
    assert!(options("/dev/shm").contains("size=65536k"));
    assert!(options("/proc").contains(" rw,nosuid,nodev,noexec"));
}

#[test]
fn devices_limits_and_descriptors() {
    let daemon = daemon();
    let devices = inside(&daemon, &[], "ls /dev | sort | tr '\\n' ' '");
    assert_eq!(
        devices,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(
        inside(
            &daemon,
            &["--cap-add", "MKNOD"],
            "mknod /tmp/kmsg c 1 11 && (cat /tmp/kmsg 2>&1 | grep -c 'not permitted')"
        ),
        "1\n"
    );
    assert_eq!(inside(&daemon, &[], "ls /proc/self/fd | wc -l"), "4\n");
    assert_eq!(inside(&daemon, &[], "ulimit -n"), "1024\n");
    assert_eq!(
        inside(
            &daemon,
            &["--ulimit", "nofile=100:200"],
            "ulimit -n; ulimit -Hn"
        ),
        "100\n200\n"
    );
}

#[test]
fn namespaces_are_private() {
    let daemon = daemon();
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = inside(&daemon, &[], &format!("readlink /proc/self/ns/{kind}"));
        assert_ne!(theirs.trim(), own.to_string_lossy(), "{kind}");
    }
    assert_eq!(inside(&daemon, &[], "echo $$"), "1\n");
    assert_eq!(
        inside(&daemon, &["--pid", "host"], "test $$ -gt 1 && echo host"),
        "host\n"
    );
}

#[test]
fn limits_reach_the_cgroup() {
    let daemon = daemon();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null ||
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max";
    let text = inside(
        &daemon,
        &["-m", "64m", "--pids-limit", "77", "--cpus", "0.5"],
        script,
    );
    assert!(
        text.contains("67108864\n") && text.contains("77\n") && text.contains("50000"),
        "{text}"
    );
    let output = daemon
        .cais_output(&[
            "run",
            "--name",
            "eater",
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            "tail /dev/zero",
        ])
        .unwrap();
    assert_eq!(output.status.code(), Some(137));
    assert_eq!(
        daemon
            .cais(&["inspect", "-f", "{{.State.OOMKilled}}", "eater"])
            .unwrap(),
        "true\n"
    );
}

#[test]
fn read_only_roots_and_tmpfs() {
    let daemon = daemon();
    let output = inside(
        &daemon,
        &["--read-only", "--tmpfs", "/scratch:size=1m"],
        "touch /x 2>/dev/null || echo ro; touch /scratch/x && echo rw",
    );
    assert_eq!(output, "ro\nrw\n");
}

#[test]
fn privileged_containers_are_not_confined() {
    let daemon = daemon();
    let bounding = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = bounding
        .lines()
        .find(|line| line.starts_with("CapBnd:"))
        .unwrap()
        .to_owned();
    let output = inside(
        &daemon,
        &["--privileged"],
        "grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status; test -e /dev/kmsg && echo devices; grep -c ' /proc/sys ' /proc/self/mountinfo",
    );
    assert_eq!(output.lines().next().unwrap(), bounding);
    assert!(
        output.contains("Seccomp:\t0\n")
            && output.contains("devices\n")
            && output.ends_with("\n0\n"),
        "{output}"
    );
}

#[test]
fn the_binary_cannot_be_written_from_inside() {
    let daemon = daemon();
    let before = std::fs::metadata(crate::CAIS).unwrap().len();
    // The entrypoint is the runtime itself (CVE-2019-5736): whatever it does, the file on the host must stay.
    let output = daemon
        .cais_output(&[
            "run",
            "--rm",
            "--privileged",
            "busybox",
            "/proc/self/exe",
            "version",
        ])
        .unwrap();
    let _ = output;
    let script =
        "for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null && readlink $p/exe; done; true";
    let wrote = inside(
        &daemon,
        &["--privileged", "--pid", "host"],
        &format!(
            "for p in $(pgrep cais-monitor); do (: >> /proc/$p/exe) 2>/dev/null && echo wrote; done; true # {script}"
        ),
    );
    assert_eq!(wrote, "");
    assert_eq!(std::fs::metadata(crate::CAIS).unwrap().len(), before);
}
