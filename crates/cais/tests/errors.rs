//! Clear errors, Docker's words and exit codes, and nothing lost.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cais_testkit::TestDaemon;

use crate::disk::Disk;
use crate::{CAIS, daemon};

fn fails(daemon: &TestDaemon, args: &[&str], code: i32, text: &str) {
    let output = daemon.cais_output(args).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(error.contains(text), "{args:?}: want {text:?} in {error:?}");
}

#[test]
fn every_common_mistake_has_its_words_and_code() {
    let daemon = daemon();
    fails(
        &daemon,
        &["inspect", "--type", "image", "nothing"],
        1,
        "No such image: nothing",
    );
    fails(
        &daemon,
        &["run", "Busybox", "true"],
        125,
        "repository name (library/Busybox) must be lowercase",
    );
    fails(
        &daemon,
        &["run", "--no-such-flag", "busybox"],
        125,
        "unknown flag: --no-such-flag",
    );
    fails(
        &daemon,
        &["run", "--rm", "busybox", "nothing"],
        127,
        "exec: \"nothing\": executable file not found in $PATH",
    );
    fails(
        &daemon,
        &["run", "--rm", "busybox", "/etc/passwd"],
        126,
        "permission denied",
    );
    fails(
        &daemon,
        &["run", "--rm", "-u", "nobody-knows", "busybox", "true"],
        125,
        "unable to find user nobody-knows: no matching entries in passwd file",
    );
    fails(
        &daemon,
        &[
            "run",
            "--mount",
            "type=bind,src=/no/such,dst=/x",
            "busybox",
            "true",
        ],
        125,
        "bind source path does not exist: /no/such",
    );
    daemon
        .cais(&["create", "--name", "taken", "busybox", "true"])
        .unwrap();
    fails(
        &daemon,
        &["create", "--name", "taken", "busybox", "true"],
        1,
        "The container name \"/taken\" is already in use by container",
    );
    fails(
        &daemon,
        &["run", "--name", "taken", "busybox", "true"],
        125,
        "is already in use by container",
    );
    fails(&daemon, &["rm", "nothing"], 1, "No such container: nothing");
    fails(
        &daemon,
        &["run", "-m", "1m", "busybox", "true"],
        125,
        "Minimum memory limit allowed is 6MB",
    );
    fails(
        &daemon,
        &["rmi", "busybox"],
        1,
        "conflict: unable to remove repository reference \"busybox\" (must force)",
    );
    assert_eq!(
        daemon
            .cais(&["ps", "-aq", "--filter", "name=taken"])
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_port_in_use_is_refused_and_can_be_used_later() {
    let daemon = daemon();
    let port = crate::networks::free_ports(&daemon, 1);
    let holder = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let publish = format!("{port}:80");
    fails(
        &daemon,
        &[
            "run", "-d", "--name", "web", "-p", &publish, "busybox", "sleep", "1000",
        ],
        125,
        "address already in use",
    );
    drop(holder);
    daemon.cais(&["start", "web"]).unwrap();
    fails(
        &daemon,
        &["run", "-d", "-p", &publish, "busybox", "sleep", "1000"],
        125,
        "port is already allocated",
    );
}

#[test]
fn a_corrupt_archive_leaves_nothing() {
    let daemon = daemon();
    let before = daemon.cais(&["images", "-q"]).unwrap();
    let good =
        std::fs::read(cais_testkit::base_image(cais_testkit::BaseImage::HelloWorld).unwrap())
            .unwrap();
    let path = daemon.scratch().join("bad.tar");
    let mut flipped = good.clone();
    let text = b"Hello from cais";
    let position = good
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    flipped[position] ^= 1;
    for bad in [&good[..good.len() / 2], &flipped, b"not a tar"] {
        std::fs::write(&path, bad).unwrap();
        let output = daemon
            .cais_output(&["load", "-i", &path.to_string_lossy()])
            .unwrap();
        assert!(
            !output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(!output.stderr.is_empty());
        assert_eq!(daemon.cais(&["images", "-q"]).unwrap(), before);
    }
    std::fs::write(&path, &good).unwrap();
    daemon
        .cais(&["load", "-i", &path.to_string_lossy()])
        .unwrap();
    assert!(
        daemon
            .cais(&["run", "--rm", "hello-world"])
            .unwrap()
            .starts_with("Hello from cais!")
    );
}

#[test]
fn no_daemon_and_no_permission_are_told_apart() {
    let daemon = daemon();
    let absent = daemon
        .client(CAIS, &["ps"])
        .env("DOCKER_HOST", "unix:///no/such.sock")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&absent.stderr);
    assert!(text.contains("Cannot connect to the Docker daemon at unix:///no/such.sock. Is the docker daemon running?"), "{text}");

    std::fs::set_permissions(daemon.scratch(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        std::fs::metadata(daemon.socket())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o660
    );
    let binary = daemon.scratch().join("cais");
    // Not by this process: a child that another test starts meanwhile would have the file open for writing.
    let copied = std::process::Command::new("cp")
        .arg(CAIS)
        .arg(&binary)
        .status();
    assert!(copied.unwrap().success());
    let mut command = daemon.client(
        Path::new("setpriv"),
        &["--reuid=65534", "--regid=65534", "--clear-groups"],
    );
    let denied = command.arg(&binary).arg("ps").output().unwrap();
    let text = String::from_utf8_lossy(&denied.stderr);
    assert!(
        text.contains("permission denied while trying to connect to the Docker daemon socket"),
        "{text}"
    );
}

#[test]
fn programs_that_cannot_run_end_with_the_shells_codes() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name=box", "busybox", "sleep", "1000"])
        .unwrap();
    for (program, code, why) in [
        (
            "nothing",
            127,
            "exec: \"nothing\": executable file not found in $PATH",
        ),
        (
            "/nothing",
            127,
            "exec: \"/nothing\": stat /nothing: no such file or directory",
        ),
        (
            "/etc/passwd",
            126,
            "exec: \"/etc/passwd\": permission denied",
        ),
        ("/etc", 126, "exec: \"/etc\": is a directory"),
    ] {
        fails(&daemon, &["run", "--rm", "busybox", program], code, why);
        let output = daemon.cais_output(&["exec", "box", program]).unwrap();
        assert_eq!(output.status.code(), Some(code), "exec {program}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(why), "exec {program}: {said}");
    }
    fails(
        &daemon,
        &["run", "--rm", "-w=relative", "busybox", "true"],
        125,
        "the working directory 'relative' is invalid, it needs to be an absolute path",
    );
    fails(
        &daemon,
        &["run", "--rm", "-w=/etc/passwd", "busybox", "true"],
        125,
        "not a directory",
    );
    fails(
        &daemon,
        &["run", "--rm", "--device=/no/such", "busybox", "true"],
        127,
        "error gathering device information while adding custom device \"/no/such\": no such file or directory",
    );
    fails(
        &daemon,
        &["run", "--rm", "--sysctl=net.ipv4.none=1", "busybox", "true"],
        127,
        "open /proc/sys/net/ipv4/none: no such file or directory",
    );
    for code in [0, 1, 42, 125, 126, 127, 255] {
        let script = format!("exit {code}");
        let output = daemon
            .cais_output(&["run", "--rm", "busybox", "sh", "-c", &script])
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
    }
    let output = daemon.cais_output(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "kill -9 $$; sleep 10 & exec kill -9 $!",
    ]);
    assert!(output.is_ok());
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap().lines().count(), 1);
}

#[test]
fn bad_names_and_ports_are_told_before_anything_is_made() {
    let daemon = daemon();
    for (args, why) in [
        (
            &["run", "busybox:bad tag", "true"][..],
            "invalid reference format",
        ),
        (
            &["run", "upper/Case", "true"],
            "repository name (upper/Case) must be lowercase",
        ),
        (
            &["run", "--name=-x", "busybox", "true"],
            "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            &["run", "-p=99999:80", "busybox", "true"],
            "invalid hostPort: 99999",
        ),
        (
            &["run", "-p=80/odd", "busybox", "true"],
            "invalid proto: odd",
        ),
        (
            &["run", "-p=1.2.3:80:80", "busybox", "true"],
            "invalid IP address: 1.2.3",
        ),
        (
            &["run", "-p=80-81:80-82", "busybox", "true"],
            "invalid ranges specified for container and host Ports: 80-82 and 80-81",
        ),
        (
            &["run", "--network=none-such", "busybox", "true"],
            "network none-such not found",
        ),
        (
            &["run", "--network=container:none-such", "busybox", "true"],
            "No such container: none-such",
        ),
        (
            &["run", "--ulimit=odd=1", "busybox", "true"],
            "invalid ulimit type: odd",
        ),
        (
            &["run", "--ulimit=nofile=20:10", "busybox", "true"],
            "ulimit soft limit must be less than or equal to hard limit: 20 > 10",
        ),
        (
            &["run", "--cap-add=odd", "busybox", "true"],
            "unknown capability: \"CAP_ODD\"",
        ),
        (
            &["run", "--security-opt=odd=1", "busybox", "true"],
            "invalid --security-opt 2: \"odd=1\"",
        ),
        (
            &["run", "--restart=odd", "busybox", "true"],
            "restart policy",
        ),
        (
            &["run", "-p=198.51.100.7:80:80", "busybox", "true"],
            "cannot assign requested address",
        ),
    ] {
        fails(&daemon, args, 125, why);
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let home = tempfile::TempDir::new().unwrap();
    let disk = Disk::new(home.path(), 8 << 20);
    let mut small = TestDaemon::start_with(CAIS, &[&disk.data_root()]).unwrap();
    let archive = |image| {
        cais_testkit::base_image(image)
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    let (busybox, hello) = (
        archive(cais_testkit::BaseImage::Busybox),
        archive(cais_testkit::BaseImage::HelloWorld),
    );
    small.cais(&["load", "-i", &busybox]).unwrap();
    small
        .cais(&["create", "--name=bystander", "busybox", "true"])
        .unwrap();
    // It never stops asking for more, also for what others give back.
    let fill = "cat /dev/zero >/fill; while :; do echo x >>/more; done 2>/dev/null";
    small
        .cais(&["run", "-d", "--name=writer", "busybox", "sh", "-c", fill])
        .unwrap();
    let probe = ["exec", "writer", "sh", "-c", "echo x >/probe"];
    cais_testkit::wait_until("the disk to be full", || small.cais(&probe).is_err());
    assert_eq!(disk.free(), 0);

    assert!(small.cais(&["ps"]).unwrap().contains("writer"));
    for args in [
        &["create", "busybox"][..],
        &["volume", "create", "more"],
        &["load", "-i", &hello],
    ] {
        let error = small.cais(args).unwrap_err().to_string();
        assert!(
            error.contains("no space left on device"),
            "{args:?}: {error}"
        );
    }
    // The daemon starts on the full disk, after a crash and after an orderly end.
    small.restart().unwrap();
    let state = ["inspect", "-f", "{{.State.Status}}", "writer"];
    assert_eq!(small.cais(&state).unwrap(), "running\n");
    small.cais(&["kill", "writer"]).unwrap();
    cais_testkit::wait_until("the end to be told", || {
        small.cais(&state).unwrap() == "exited\n"
    });
    small.restart().unwrap();
    let code = [
        "inspect",
        "-f",
        "{{.State.Status}} {{.State.ExitCode}}",
        "writer",
    ];
    assert_eq!(small.cais(&code).unwrap(), "exited 137\n");
    assert_eq!(small.cais(&["ps", "-aq"]).unwrap().lines().count(), 2);

    small.cais(&["rm", "writer"]).unwrap();
    cais_testkit::wait_until("the space to come back", || {
        small.cais(&["load", "-i", &hello]).is_ok()
    });
    assert!(
        small
            .cais(&["run", "--rm", "hello-world"])
            .unwrap()
            .contains("Hello")
    );
    small.cais(&["start", "-a", "bystander"]).unwrap();
    small.cais(&["container", "prune", "-f"]).unwrap();
    small.cais(&["image", "prune", "-af"]).unwrap();
    assert_eq!(small.cais(&["images", "-q"]).unwrap(), "");
}

#[test]
fn files_that_the_kernel_cannot_execute_end_their_container_and_say_why() {
    let daemon = daemon();
    let make = "echo text >/text; echo '#!/no/where' >/script; echo '#!/etc' >/closed; chmod +x /text /script /closed";
    daemon
        .docker(&["run", "--name=made", "busybox", "sh", "-c", make])
        .unwrap();
    daemon.docker(&["commit", "made", "made"]).unwrap();
    daemon
        .docker(&["run", "-d", "--name=up", "made", "sleep", "1000"])
        .unwrap();
    for (file, why) in [
        ("/text", "exec format error"),
        ("/script", "no such file or directory"),
        ("/closed", "permission denied"),
    ] {
        for args in [["run", "--rm", "made", file], ["exec", "-i", "up", file]] {
            let output = daemon.client("docker", &args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, format!("exec {file}: {why}\n"));
            assert_eq!(output.status.code(), Some(1), "{args:?}");
        }
    }
    daemon
        .docker(&["run", "-d", "--name=gone", "made", "/script"])
        .unwrap();
    assert_eq!(daemon.docker(&["wait", "gone"]).unwrap(), "1\n");
    assert_eq!(crate::state(&daemon, "gone", "Error"), "");
}
