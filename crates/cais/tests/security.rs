//! The security baseline, looked at from inside a container.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cais_testkit::{TestDaemon, wait_until};

use crate::{daemon, probe};

/// What a shell script in a new container prints.
pub fn inside(daemon: &TestDaemon, flags: &[&str], script: &str) -> String {
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
fn the_filter_refuses_what_dockers_refuses() {
    let daemon = daemon();
    let calls = |flags: &[&str]| {
        let mount = probe::mount();
        let mut args = vec!["run", "--rm", &mount];
        args.extend(flags);
        args.extend(["busybox", "/probe", "calls"]);
        daemon.cais(&args).unwrap()
    };
    for line in calls(&[]).lines() {
        let expected = match line.split_once('=').unwrap().0 {
            "af_inet" => "ok",
            // The C library falls back to clone(2), whose flags the filter can see.
            "clone3" => "ENOSYS",
            _ => "EPERM",
        };
        assert!(line.ends_with(&format!("={expected}")), "{line}");
    }
    let free = calls(&["--privileged"]);
    assert!(free.contains("unshare_mount=ok\n"), "{free}");
    assert!(free.contains("clone3=EINVAL\n"), "{free}");
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "box",
            &probe::mount(),
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let exec = daemon.cais(&["exec", "box", "/probe", "calls"]).unwrap();
    assert_eq!(exec, calls(&[]));
}

#[test]
fn no_new_privileges_beats_setuid_programs() {
    let daemon = daemon();
    let program = daemon.scratch().join("setuid");
    fs::copy(probe::program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let mount = format!("--volume={}:/setuid", program.display());
    let ids = |flags: &[&str]| {
        inside(
            &daemon,
            &[&[&*mount, "-u1000:1000"], flags].concat(),
            "/setuid ids",
        )
    };
    assert_eq!(ids(&[]), "0 1000\n");
    assert_eq!(ids(&["--security-opt=no-new-privileges"]), "1000 1000\n");
}

/// As of Docker 28.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The line of `/proc/self/mountinfo` for a mount point.
pub fn mount_at<'a>(mounts: &'a str, target: &str) -> Option<&'a str> {
    mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(target))
}

#[test]
fn masked_and_read_only_paths() {
    let daemon = daemon();
    let mounts = inside(&daemon, &[], "cat /proc/self/mountinfo");
    let options =
        |target: &str| mount_at(&mounts, target).unwrap_or_else(|| panic!("{target} in {mounts}"));
    for path in MASKED.iter().filter(|path| Path::new(path).exists()) {
        let show = format!(
            "if [ -d {path} ]; then ls -A {path}; else cat {path}; fi; (echo x >{path}/x) 2>/dev/null && echo wrote"
        );
        assert_eq!(inside(&daemon, &[], &format!("{show}; true")), "", "{path}");
        options(path);
    }
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        assert!(options(path).contains(" ro,"), "{path}");
    }
    let written = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/profiling /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            (echo 1 > $f) 2>/dev/null && echo wrote $f; done; true";
    assert_eq!(inside(&daemon, &[], written), "");
    assert!(options("/sys").contains(" ro,nosuid,nodev,noexec"));
    assert!(options("/sys/fs/cgroup").contains(" ro,nosuid,nodev,noexec"));
    assert!(options("/dev/shm").contains("size=65536k"));
    assert!(options("/proc").contains(" rw,nosuid,nodev,noexec"));
    daemon
        .cais(&["create", "--name", "shown", "busybox"])
        .unwrap();
    let shown = |field: &str| {
        let format = format!("{{{{range .HostConfig.{field}}}}}{{{{println .}}}}{{{{end}}}}");
        daemon.cais(&["inspect", "-f", &format, "shown"]).unwrap()
    };
    let masked = shown("MaskedPaths");
    assert!(
        MASKED
            .iter()
            .all(|path| masked.lines().any(|line| line == *path)),
        "{masked}"
    );
    let read_only = shown("ReadonlyPaths");
    assert_eq!(read_only.trim().lines().collect::<Vec<_>>(), READ_ONLY);
    let open = inside(
        &daemon,
        &["--security-opt=systempaths=unconfined"],
        "cat /proc/self/mountinfo",
    );
    assert!(mount_at(&open, "/proc/sys").is_none() && mount_at(&open, "/proc/keys").is_none());
}

#[test]
fn devices_are_the_default_ones_and_those_asked_for() {
    let daemon = daemon();
    let devices = inside(&daemon, &[], "ls /dev | sort | tr '\\n' ' '");
    assert_eq!(
        devices,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    // Every device that could be made here can be made, and not opened (GHSA-g54h-m393-cpwq).
    let forbidden = "for d in 'c 1 1' 'c 1 2' 'c 1 4' 'c 1 11' 'c 10 229' 'c 10 200' 'b 254 0' 'b 8 0' 'b 7 0' 'c 4 0'; do
            mknod /tmp/d $d; (: </tmp/d) 2>/tmp/why && echo opened $d; grep -q 'not permitted' /tmp/why || cat /tmp/why; rm /tmp/d; done; true";
    assert_eq!(
        inside(&daemon, &[], &format!("({forbidden}) 2>/dev/null")),
        ""
    );
    let asked = inside(
        &daemon,
        &["--device=/dev/null:/dev/deep/none:r"],
        "ls -l /dev/deep/none | cut -c1-10; cat /dev/deep/none",
    );
    assert_eq!(asked, "crw-rw-rw-\n");
    if Path::new("/dev/fuse").exists() {
        let opened = "mknod /tmp/f c 10 229; (: </tmp/f) 2>/dev/null && echo read; (: >/tmp/f) 2>/dev/null || echo refused";
        let ruled = inside(&daemon, &["--device-cgroup-rule=c 10:229 r"], opened);
        assert_eq!(ruled, "read\nrefused\n");
    }
}

#[test]
fn a_bound_dev_stays_as_it_is() {
    let daemon = daemon();
    let dev = daemon.scratch().join("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("ptmx"), "mine").unwrap();
    let mount = format!("--volume={}:/dev", dev.display());
    // Without a null device nothing could be masked.
    inside(
        &daemon,
        &[&mount, "--security-opt=systempaths=unconfined"],
        "true",
    );
    let names: Vec<_> = fs::read_dir(&dev)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["ptmx"]);
    assert_eq!(fs::read_to_string(dev.join("ptmx")).unwrap(), "mine");
}

#[test]
fn descriptors_of_ours_do_not_reach_programs() {
    let daemon = daemon();
    // The fourth is the directory that ls reads.
    let list = ["ls", "-1", "/proc/self/fd"];
    let four = "0\n1\n2\n3\n";
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    for flags in [
        &["run", "--rm"][..],
        &["run", "--rm", "--privileged"],
        &["run", "--rm", "-t"],
        &["run", "--rm", "--init"],
    ] {
        let shown = daemon.cais(&[flags, &["busybox"], &list].concat()).unwrap();
        assert_eq!(shown.replace('\r', ""), four, "{flags:?}");
    }
    for flags in [&["exec"][..], &["exec", "-t"], &["exec", "--privileged"]] {
        let shown = daemon.cais(&[flags, &["box"], &list].concat()).unwrap();
        assert_eq!(shown.replace('\r', ""), four, "{flags:?}");
    }
    let first = daemon
        .cais(&["exec", "box", "ls", "-1", "/proc/1/fd"])
        .unwrap();
    assert_eq!(first, "0\n1\n2\n");
}

#[test]
fn resource_limits_are_dockers_and_can_be_changed() {
    let daemon = daemon();
    let host = fs::read_to_string("/proc/self/limits").unwrap();
    let host = host
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let hard: u64 = host.split_whitespace().nth(4).unwrap().parse().unwrap();
    let expected = format!("1024\n{}\n", hard.min(524_288));
    assert_eq!(inside(&daemon, &[], "ulimit -Sn; ulimit -Hn"), expected);
    let limits = inside(
        &daemon,
        &[
            "--ulimit=nofile=100:200",
            "--ulimit=core=0",
            "--ulimit=nproc=5000",
        ],
        "ulimit -Sn; ulimit -Hn; ulimit -c; grep processes /proc/self/limits | tr -s ' '",
    );
    assert_eq!(limits, "100\n200\n0\nMax processes 5000 5000 processes \n");
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "box",
            "--ulimit=nofile=100:200",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let exec = daemon
        .cais(&["exec", "box", "sh", "-c", "ulimit -Sn; ulimit -Hn"])
        .unwrap();
    assert_eq!(exec, "100\n200\n");
}

#[test]
fn sizes_and_kernel_parameters_reach_the_container() {
    let daemon = daemon();
    let shared = inside(
        &daemon,
        &["--shm-size=1m"],
        "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
    );
    assert_eq!(shared, "1024\n");
    let host = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let parameters = inside(
        &daemon,
        &[
            "--sysctl=net.ipv4.ip_forward=0",
            "--sysctl=kernel.msgmax=9001",
        ],
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    );
    assert_eq!(parameters, "0\n9001\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), host);
    // The unprivileged may bind port 80 and ping, as in Docker since 20.10.
    let defaults = inside(
        &daemon,
        &["-u1000"],
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/ping_group_range | tr '\\t' ' '",
    );
    assert_eq!(defaults, "0\n0 2147483647\n");
}

#[test]
fn namespaces_are_private() {
    let daemon = daemon();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        // As in Docker, cgroups of version 1 are shown as they are on the host unless asked for otherwise.
        let flags: &[&str] = if kind == "cgroup" && !unified {
            &["--cgroupns=private"]
        } else {
            &[]
        };
        let theirs = inside(&daemon, flags, &format!("readlink /proc/self/ns/{kind}"));
        assert_ne!(theirs.trim(), own.to_string_lossy(), "{kind}");
    }
    let groups = inside(
        &daemon,
        &["--cgroupns=private"],
        "cut -d: -f3 /proc/self/cgroup | sort -u",
    );
    assert_eq!(groups, "/\n");
    assert_eq!(inside(&daemon, &[], "echo $$"), "1\n");
    for (flag, kind) in [
        ("--pid=host", "pid"),
        ("--ipc=host", "ipc"),
        ("--uts=host", "uts"),
        ("--network=host", "net"),
    ] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = inside(&daemon, &[flag], &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(theirs.trim(), own.to_string_lossy(), "{flag}");
    }
    assert_eq!(
        inside(&daemon, &["--pid=host"], "test $$ -gt 1 && echo host"),
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
            "--name=eater",
            "-m=16m",
            "--memory-swap=16m",
            "busybox",
            "tail",
            "/dev/zero",
        ])
        .unwrap();
    assert_eq!(output.status.code(), Some(137));
    assert_eq!(
        daemon
            .cais(&["inspect", "-f", "{{.State.OOMKilled}}", "eater"])
            .unwrap(),
        "true\n"
    );
    let forks = inside(
        &daemon,
        &["--pids-limit=8"],
        "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done 2>&1 | grep -c \"can't fork\"",
    );
    assert_eq!(forks, "1\n");
}

#[test]
fn cve_2022_36109_cve_2026_46680_groups_are_set_and_ids_do_not_wrap() {
    let daemon = daemon();
    probe::import(&daemon, "people", &["USER web"], |root| {
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/www:/bin/sh\nhuge:x:4294967296:0::/:\n",
        )
        .unwrap();
        fs::write(
            root.join("etc/group"),
            "root:x:0:\nweb:x:34:\nlogs:x:44:web,root\n",
        )
        .unwrap();
    });
    let ids = |flags: &[&str]| {
        let script = "id -u; id -g; id -G; echo $HOME";
        let args = [&["run", "--rm"], flags, &["people", "sh", "-c", script]].concat();
        daemon.cais(&args).map(|text| text.replace('\n', ";"))
    };
    assert_eq!(ids(&[]).unwrap(), "33;34;34 44;/www;");
    assert_eq!(ids(&["-u0"]).unwrap(), "0;0;0 44;/root;");
    assert_eq!(ids(&["-uweb:logs"]).unwrap(), "33;44;44;/www;");
    assert_eq!(ids(&["-u7777"]).unwrap(), "7777;0;0;/;");
    assert_eq!(
        ids(&["-u7777:8888", "--group-add=logs", "--group-add=55"]).unwrap(),
        "7777;8888;8888 44 55;/;"
    );
    daemon
        .cais(&["run", "-d", "--name", "box", "people", "sleep", "1000"])
        .unwrap();
    assert_eq!(
        daemon.cais(&["exec", "box", "id", "-G"]).unwrap(),
        "34 44\n"
    );
    assert_eq!(
        daemon.cais(&["exec", "-u0:0", "box", "id", "-G"]).unwrap(),
        "0\n"
    );
    for user in [
        "4294967296",
        "2147483648",
        "-1",
        "18446744073709551616",
        "0:4294967296",
    ] {
        let range = "uids and gids must be in range 0-2147483647";
        let flag = format!("-u={user}");
        for error in [ids(&[&flag]), daemon.cais(&["exec", &flag, "box", "id"])] {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(range), "{user}: {text}");
        }
    }
    let text = ids(&["-uhuge"]).unwrap_err().to_string();
    assert!(text.contains("unable to find user huge"), "{text}");
    // A group may have less than everybody: who is in it must not get around that.
    let file = daemon.scratch().join("negative");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(&file, Some(0), Some(44)).unwrap();
    let mount = format!("--volume={}:/negative", file.display());
    let read = |flags: &[&str]| {
        let args = [
            &["run", "--rm", &mount],
            flags,
            &["people", "cat", "/negative"],
        ]
        .concat();
        daemon.cais(&args).is_ok()
    };
    assert!(!read(&[]));
    assert!(read(&["-u7777:8888"]));
}

#[test]
fn cve_2020_15257_our_sockets_are_files_that_only_the_group_may_open() {
    let daemon = daemon();
    let socket = fs::metadata(daemon.socket()).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o660);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let docker = groups
        .lines()
        .find_map(|line| line.strip_prefix("docker:")?.split(':').nth(1));
    let group = docker.map_or(0, |number| number.parse().unwrap());
    assert_eq!((socket.uid(), socket.gid()), (0, group));
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    assert_eq!(
        fs::metadata(daemon.data_root()).unwrap().mode() & 0o777,
        0o710
    );
    let open_to_others = |root: &Path| {
        let found = std::process::Command::new("find")
            .arg(root)
            .args(["-type", "s", "-perm", "/o=rw"])
            .output()
            .unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    assert_eq!(open_to_others(&daemon.exec_root()), "");
    let monitors = processes_of(&daemon);
    assert!(!monitors.is_empty());
    for process in monitors.iter().chain([&daemon.pid()]) {
        assert_eq!(
            abstract_sockets(*process),
            Vec::<String>::new(),
            "{process}"
        );
    }
}

/// The monitors of a daemon: processes that were told its directories.
fn processes_of(daemon: &TestDaemon) -> Vec<u32> {
    let root = daemon.data_root().to_string_lossy().into_owned();
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let ours = |process: &u32| {
        let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let open = fs::read_dir(format!("/proc/{process}/fd"))
            .into_iter()
            .flatten();
        let holds = |link: &fs::DirEntry| {
            fs::read_link(link.path()).is_ok_and(|path| path.starts_with(&root))
        };
        String::from_utf8_lossy(&words).contains(&root) || open.flatten().any(|link| holds(&link))
    };
    numbers
        .filter(|process| *process != std::process::id() && *process != daemon.pid())
        .filter(ours)
        .collect()
}

/// The abstract unix sockets that a process has open.
fn abstract_sockets(process: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{process}/net/unix")).unwrap();
    let open: Vec<_> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let lines = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(6);
        let (inode, name) = (words.next()?, words.next()?);
        (name.starts_with('@') && open.contains(&format!("socket:[{inode}]")))
            .then(|| line.to_owned())
    });
    lines.collect()
}

#[test]
fn bridges_take_no_router_advertisements() {
    let daemon = daemon();
    let setting = |name: &str| {
        fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{}/{name}", daemon.name()))
    };
    if let Ok(accepts) = setting("accept_ra") {
        assert_eq!(accepts, "0\n");
        // CVE-2020-13401: without IPv6 in its network a container must not be given any by a neighbour.
        let inside = inside(
            &daemon,
            &[],
            "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
        );
        assert_eq!(inside, "1\n");
    }
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
    let bounding = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = bounding
        .lines()
        .find(|line| line.starts_with("CapBnd:"))
        .unwrap()
        .to_owned();
    let output = inside(
        &daemon,
        &["--privileged"],
        "grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status; test -e /dev/kmsg && echo devices; cat /proc/self/mountinfo",
    );
    assert_eq!(output.lines().next().unwrap(), bounding);
    assert!(output.contains("Seccomp:\t0\ndevices\n"), "{output}");
    assert!(mount_at(&output, "/proc/sys").is_none(), "{output}");
    assert!(
        mount_at(&output, "/sys").unwrap().contains(" rw,"),
        "{output}"
    );
}

#[test]
fn the_end_of_a_daemon_leaves_nothing_open() {
    let mut daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    let monitors = processes_of(&daemon);
    daemon.stop();
    wait_until("the monitors to end", || {
        monitors
            .iter()
            .all(|process| !Path::new(&format!("/proc/{process}")).exists())
    });
    let name = daemon.name();
    assert!(!Path::new(&format!("/sys/class/net/{name}")).exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*daemon.scratch().to_string_lossy()));
}
