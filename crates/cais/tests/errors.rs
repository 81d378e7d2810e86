//! Clear errors, Docker's words and exit codes, and nothing lost.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cais_testkit::TestDaemon;

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
    let holder = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
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
    std::fs::copy(CAIS, &binary).unwrap();
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
fn a_full_disk_loses_nothing() {
    let daemon = daemon();
    let mount = daemon.scratch().join("small");
    std::fs::create_dir(&mount).unwrap();
    let target = mount.to_string_lossy().into_owned();
    let size = "size=6m";
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", size, "small", &target])
        .status()
        .unwrap();
    assert!(mounted.success());
    let _unmount = Unmount(target.clone());
    let root = format!("--data-root={target}/data");
    let small = TestDaemon::start_with(CAIS, &[&root]).unwrap();
    let busybox = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    small
        .cais(&["load", "-i", &busybox.to_string_lossy()])
        .unwrap();
    small
        .cais(&[
            "run",
            "-d",
            "--name",
            "writer",
            "busybox",
            "sh",
            "-c",
            "cat /dev/zero > /fill; echo full; sleep 1000",
        ])
        .unwrap();
    cais_testkit::wait_until("the disk to be full", || {
        small
            .cais(&["exec", "writer", "sh", "-c", "echo x > /probe"])
            .is_err()
    });
    assert!(small.cais(&["ps"]).unwrap().contains("writer"));
    let debian = cais_testkit::base_image(cais_testkit::BaseImage::HelloWorld).unwrap();
    let _ = small
        .cais_output(&["load", "-i", &debian.to_string_lossy()])
        .unwrap();
    small.cais(&["rm", "-f", "writer"]).unwrap();
    small
        .cais(&["load", "-i", &debian.to_string_lossy()])
        .unwrap();
    assert!(
        small
            .cais(&["run", "--rm", "hello-world"])
            .unwrap()
            .contains("Hello")
    );
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-l", &self.0])
            .status();
    }
}
