//! More holes that other engines have had, of images, archives and the files of the engine: one test each, or one for several that
//! the same situation proves. What must hold is that the host is as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cais_testkit::{BaseImage, TestDaemon, base_image, wait_until};

use crate::build::{Context, built};
use crate::registry_kit::Registry;
use crate::security::inside;
use crate::{daemon, inspect, probe, wrapped};

fn with_busybox(binary: impl Into<PathBuf>, flags: &[&str]) -> TestDaemon {
    let daemon = TestDaemon::start_with(binary, flags).unwrap();
    let archive = base_image(BaseImage::Busybox).unwrap();
    let archive = archive.to_string_lossy();
    daemon.cais(&["load", "-q", "-i", &archive]).unwrap();
    daemon
}

/// What a user of the host finds below a directory.
fn found_by_nobody(directory: &Path) -> String {
    let found = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "find"])
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap()
}

#[test]
fn cve_2014_3499_cve_2021_41103_cve_2024_25621_state_is_closed_whatever_the_umask() {
    let home = tempfile::tempdir().unwrap();
    for (umask, ids) in [
        ("000", "CVE-2014-3499 CVE-2021-41103 CVE-2024-25621"),
        ("077", "CVE-2024-25621"),
    ] {
        let pidfile = home.path().join("pid");
        let flag = format!("--pidfile={}", pidfile.display());
        let program = wrapped(home.path(), &format!("umask {umask}"));
        let daemon = with_busybox(program, &[&flag]);
        let mode = fs::metadata(&pidfile).unwrap().mode() & 0o133;
        assert_eq!(mode, 0, "{ids} with umask {umask}");
        let run = ["run", "-d", "-v", "data:/data", "busybox", "sleep", "1000"];
        daemon.cais(&run).unwrap();
        let socket = fs::metadata(daemon.socket()).unwrap();
        assert_eq!(socket.mode() & 0o777, 0o660, "{ids}");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(daemon.scratch(), open).unwrap();
        for directory in [daemon.data_root(), daemon.exec_root()] {
            let below = found_by_nobody(&directory);
            let own = format!("{}\n", directory.display());
            assert_eq!(below, own, "{ids} with umask {umask}");
        }
        // Nor may the group of the data root write anywhere in it.
        let args = ["-maxdepth", "2", "-perm", "/g=w", "-not", "-type", "l"];
        let find = Command::new("find")
            .arg(daemon.data_root())
            .args(args)
            .output()
            .unwrap();
        let writable = String::from_utf8(find.stdout).unwrap();
        assert_eq!(writable, "", "{ids} with umask {umask}");
    }
}

/// Programs that tell when they run.
const DECOMPRESSORS: [&str; 12] = [
    "xz", "unxz", "gzip", "gunzip", "pigz", "unpigz", "zstd", "unzstd", "bzip2", "bunzip2", "tar",
    "igzip",
];

fn trojans(directory: &Path, mark: &str) {
    fs::create_dir_all(directory).unwrap();
    for name in DECOMPRESSORS {
        let path = directory.join(name);
        // The image may have a link of that name.
        let _none = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\necho ran >>{mark}\ncat\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn cve_2014_9357_cve_2026_41567_no_program_sees_an_archive() {
    let home = tempfile::tempdir().unwrap();
    let mark = home.path().join("mark");
    trojans(&home.path().join("bin"), &mark.to_string_lossy());
    let setup = format!("PATH={}/bin:$PATH", home.path().display());
    let daemon = with_busybox(wrapped(home.path(), &setup), &[]);
    let tree = home.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content\n").unwrap();
    let context = Context::new(&[]);
    let mut steps = String::new();
    for (flag, name) in [("-z", "gz"), ("-J", "xz"), ("-j", "bz2"), ("--zstd", "zst")] {
        let archive = context.path().join(format!("tree.tar.{name}"));
        let packed = Command::new("tar")
            .arg(flag)
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .args([tree.as_os_str(), "file".as_ref()])
            .status()
            .unwrap();
        assert!(packed.success());
        daemon
            .docker(&["import", &archive.to_string_lossy(), name])
            .unwrap();
        steps.push_str(&format!("ADD tree.tar.{name} /{name}/\n"));
    }
    // The image brings its own, which would run as the host's root.
    probe::import(&daemon, "trojan", &[], |root| {
        trojans(&root.join("bin"), "/mark");
        trojans(&root.join("usr/bin"), "/mark");
    });
    context.write("Dockerfile", &format!("FROM trojan\n{steps}"));
    built(&daemon, &context, &["-t", "made"]);
    let script = "cat /gz/file /xz/file /bz2/file /zst/file; ls /mark";
    let shown = daemon.client("docker", &["run", "--rm", "made", "sh", "-c", script]);
    let shown = { shown }.output().unwrap();
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap(),
        "content\n".repeat(4)
    );
    // Copying into containers is not built; when it is, it must hold for that too.
    daemon
        .docker(&["create", "--name", "box", "trojan", "true"])
        .unwrap();
    let copy = context.path().join("tree.tar.xz");
    let put = daemon.client("curl", &["-s", "--unix-socket"]);
    let put = { put }
        .arg(daemon.socket())
        .args(["-T"])
        .arg(copy)
        .arg("http://x/containers/box/archive?path=/")
        .output()
        .unwrap();
    assert!(put.status.success());
    assert!(!mark.exists());
}

#[test]
fn cve_2015_3627_cve_2015_3629_targets_of_mounts_that_become_links_stay_inside() {
    let daemon = daemon();
    let outside = daemon.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    let host = outside.display();
    // From the image on, also for what the engine itself mounts.
    probe::import(&daemon, "links", &["VOLUME /data"], |root| {
        symlink(&outside, root.join("data")).unwrap();
        symlink(&outside, root.join("etc")).unwrap();
        symlink(&outside, root.join("deep")).unwrap();
    });
    for flags in [&[][..], &["-v", "named:/deep/er"], &["--tmpfs", "/deep/er"]] {
        let touch = ["links", "touch", "/data/mark", "/deep/mark"];
        let args = [&["run", "--rm"], flags, &touch].concat();
        let _either = daemon.cais_output(&args).unwrap();
    }
    // Put there by the process before the container is started anew.
    let swap = format!("mv /a /b; ln -s {host} /a; mv /etc /etc2; ln -s {host} /etc");
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        "-v",
        "other:/a/data",
        "busybox",
    ];
    daemon
        .cais(&[&args[..], &["sh", "-c", "sleep 100000"]].concat())
        .unwrap();
    let _partly = daemon
        .cais_output(&["exec", "box", "sh", "-c", &swap])
        .unwrap();
    for _ in 0..2 {
        let again = daemon.cais_output(&["restart", "-t0", "box"]).unwrap();
        if again.status.success() {
            let touch = [
                "exec",
                "box",
                "touch",
                "/a/data/mark",
                "/a/mark",
                "/etc/mark",
            ];
            let _either = daemon.cais_output(&touch).unwrap();
        }
    }
    let found: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert!(found.is_empty(), "{found:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*outside.to_string_lossy()));
}

#[test]
fn cve_2015_3630_files_of_the_kernel_are_masked_or_not_writable() {
    let daemon = daemon();
    let masked = "for p in asound timer_list timer_stats latency_stats sched_debug scsi acpi keys kcore interrupts; do
        test -d /proc/$p && ls -A /proc/$p; test -f /proc/$p && head -c 100 /proc/$p; done 2>/dev/null | wc -c";
    assert_eq!(inside(&daemon, &[], masked), "0\n");
    // Opening is enough to tell, nothing is written.
    let writable = "for p in $(find /proc/fs /proc/bus /proc/irq /proc/sys /proc/sysrq-trigger -type f 2>/dev/null); do
        (: >>$p) && echo $p; done 2>/dev/null; true";
    assert_eq!(inside(&daemon, &[], writable), "");
    // It looks at something.
    assert_ne!(inside(&daemon, &["--privileged"], writable), "");
}

#[test]
fn cve_2019_13509_the_debug_log_tells_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let proxies = "http://me:Proxy-Secret@127.0.0.1:1";
    let setup = format!("export HTTPS_PROXY={proxies}");
    let daemon = with_busybox(wrapped(home.path(), &setup), &["-D"]);
    let registry = Registry::with("me:Login-Secret");
    let (server, name) = (registry.name("x").replace("/x", ""), registry.name("box:1"));
    let login = ["login", "-u", "me", "-p", "Login-Secret", &server];
    daemon.docker(&login).unwrap();
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    daemon.docker(&["push", &name]).unwrap();
    daemon.docker(&["pull", &name]).unwrap();
    let wrong = ["login", "-u", "me", "-p", "Wrong-Secret", &server];
    daemon.client("docker", &wrong).output().unwrap();
    let run = [
        "run",
        "--rm",
        "-e",
        "PASSWORD=Env-Secret",
        "busybox",
        "sh",
        "-c",
    ];
    daemon
        .docker(&[&run[..], &["echo Argument-Secret >/dev/null"]].concat())
        .unwrap();
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    daemon
        .docker(&["exec", "-e", "PASSWORD=Exec-Secret", "box", "true"])
        .unwrap();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nARG KEY\nRUN test $KEY\n")]);
    built(&daemon, &context, &["--build-arg", "KEY=Build-Secret"]);
    let log = daemon.log();
    assert!(log.contains("DEBUG"), "{log}");
    for secret in [
        "Proxy-Secret",
        "Login-Secret",
        "Wrong-Secret",
        "Env-Secret",
        "Argument-Secret",
        "Exec-Secret",
        "Build-Secret",
        // `me:Login-Secret` and `"Login-Secret"` as headers have them.
        "bWU6TG9naW4tU2VjcmV0",
        "TG9naW4tU2VjcmV0",
        "Mb2dpbi1TZWNyZX",
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret}: {lines:#?}");
    }
}

#[test]
fn cve_2022_4318_an_environment_makes_no_account() {
    let daemon = daemon();
    let before = inside(&daemon, &[], "cat /etc/passwd /etc/group");
    let evil = "evil:x:0:0::/:/bin/sh";
    for name in ["HOME", "USER", "HOSTNAME"] {
        let value = format!("{name}=/x\n{evil}");
        for user in ["-u0", "-u1234", "-u1234:5678"] {
            let script = "/bin/cat /etc/passwd /etc/group";
            let seen = inside(&daemon, &["-e", &value, user], script);
            assert_eq!(seen, before, "{name} {user}");
        }
    }
    let seen = inside(
        &daemon,
        &["-e", &format!("HOME=/x\n{evil}")],
        "id -u evil; true",
    );
    assert_eq!(seen, "");
    let error = crate::refused(&daemon, &["run", "--rm", "-u", "evil", "busybox", "true"]);
    assert!(error.contains("unable to find user evil"), "{error}");
}

/// The most memory that a process has had, KiB.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[test]
fn cve_2026_47262_huge_files_of_accounts_are_read_in_part_only() {
    let daemon = daemon();
    let run = ["run", "-d", "--name", "box", "busybox", "sleep", "100000"];
    daemon.cais(&run).unwrap();
    let grow = "truncate -s 16G /etc/group /etc/passwd";
    daemon.cais(&["exec", "box", "sh", "-c", grow]).unwrap();
    for args in [
        &["exec", "-u", "0", "box", "true"][..],
        &["exec", "-u", "nosuch", "box", "true"],
        &["exec", "-u", "0:nosuch", "box", "true"],
        &["restart", "-t0", "box"],
        &["exec", "-u", "1:1", "box", "true"],
    ] {
        let _either = daemon.cais_output(args).unwrap();
    }
    daemon.cais(&["exec", "-u", "7:8", "box", "true"]).unwrap();
    let memory = peak(daemon.pid());
    assert!(memory < 200 << 10, "{memory} KiB");
    let main: u32 = inspect(&daemon, "box", "{{.State.Pid}}").parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{main}/status")).unwrap();
    let parent = stat.lines().find_map(|line| line.strip_prefix("PPid:"));
    let memory = peak(parent.unwrap().trim().parse().unwrap());
    assert!(memory < 100 << 10, "{memory} KiB of the monitor");
}

#[test]
fn cve_2026_53488_labels_of_an_image_are_no_options() {
    let daemon = daemon();
    let mark = daemon.scratch().join("mark");
    let uri = format!("binary:///bin/touch?{}", mark.display());
    let labels = [
        "containerd.io/restart.loguri",
        "containerd.io/restart.status",
        "nerdctl/log-uri",
        "nerdctl/log-config",
        "com.docker.log-driver",
        "io.kubernetes.cri.container-type",
        "org.systemd.property.ExecStartPre",
        "io.podman.annotations.privileged",
        "cais.log-driver",
    ];
    let changes = labels.map(|label| format!("LABEL {label}={uri}"));
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    probe::import(&daemon, "labelled", &changes, |_| {});
    let run = ["run", "--name", "box", "labelled", "sh", "-c", "echo hi"];
    daemon.cais(&run).unwrap();
    assert_eq!(daemon.cais(&["logs", "box"]).unwrap(), "hi\n");
    let config = inspect(&daemon, "box", "{{json .HostConfig.LogConfig}}");
    assert_eq!(config, r#"{"Type":"json-file","Config":{}}"#);
    let plain = [
        "create", "--name", "plain", "busybox", "sh", "-c", "echo hi",
    ];
    daemon.cais(&plain).unwrap();
    let same = |name: &str| inspect(&daemon, name, "{{json .HostConfig}}");
    assert_eq!(same("box"), same("plain"));
    wait_until("the container to be gone", || {
        daemon.cais(&["rm", "box"]).is_ok()
    });
    assert!(!mark.exists());
}
