//! The daemon itself: its start by the command line, flags and file, one per data root, nothing left at the end.

use std::process::{Command, Stdio};

use crate::kills::leftovers;
use crate::{CAIS, daemon};

/// Runs a script in namespaces with an empty `/run` and `/var/lib`, where no daemon is.
fn alone(script: &str) -> std::process::Output {
    let busybox = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs t /run; mount -t tmpfs t /var/lib; mount -t tmpfs t /var/log; ip link set lo up
        cais={CAIS}; busybox={}; {script}",
        busybox.display()
    );
    Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
        ])
        .arg(script)
        .env_remove("DOCKER_HOST")
        .env("DOCKER_CONFIG", "/no/such/config")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_cli_starts_a_daemon_when_none_runs() {
    let output = alone("$cais load -q -i $busybox; $cais run --rm busybox echo started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with("started\n"),
        "{error}"
    );
}

#[test]
fn command_lines_that_start_together_share_one_daemon() {
    let output = alone(
        "for i in 1 2 3 4; do $cais info -f '{{.ID}}' >/run/id$i 2>/run/error$i & done; wait
        cat /run/error*; cat /run/id* | sort -u; pgrep -fc '[c]ais daemon' || true",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines.last()), (2, Some(&"1")), "{text}");
}

#[test]
fn two_daemons_on_one_data_root_are_refused() {
    let daemon = daemon();
    let second = daemon.scratch().join("second");
    std::fs::create_dir(&second).unwrap();
    let output = Command::new(CAIS)
        .arg("daemon")
        .arg(format!("--host=unix://{}", second.join("s").display()))
        .arg(format!("--data-root={}", daemon.data_root().display()))
        .arg(format!("--exec-root={}", second.display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("another daemon uses"), "{error}");
    daemon.cais(&["run", "--rm", "busybox", "true"]).unwrap();
}

#[test]
fn the_configuration_file_counts_as_flags_do() {
    let mut daemon = daemon();
    let file = daemon.scratch().join("daemon.json");
    let text = r#"{"labels": ["of=file"], "debug": true, "log-opts": {"max-size": "1m"},
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 100, "Hard": 200}}}"#;
    std::fs::write(&file, text).unwrap();
    daemon.restart().unwrap();
    assert_eq!(
        daemon
            .cais(&["info", "-f", "{{.Labels}} {{.Debug}}"])
            .unwrap(),
        "[of=file] true\n"
    );
    let script = "ulimit -Sn; ulimit -Hn";
    assert_eq!(
        daemon
            .cais(&["run", "--name", "bound", "busybox", "sh", "-c", script])
            .unwrap(),
        "100\n200\n"
    );
    assert_eq!(
        crate::inspect(&daemon, "bound", "{{.HostConfig.LogConfig.Config}}"),
        "map[max-size:1m]"
    );
    std::fs::write(&file, r#"{"bip": "10.99.0.1/24"}"#).unwrap();
    let error = daemon.restart().unwrap_err().to_string();
    assert!(
        error.contains("specified both as a flag and in the configuration file"),
        "{error}"
    );
    std::fs::write(&file, "{").unwrap();
    let error = daemon.restart().unwrap_err().to_string();
    assert!(error.contains("invalid JSON"), "{error}");
    std::fs::write(&file, "{}").unwrap();
    daemon.restart().unwrap();
}

#[test]
fn an_ephemeral_daemon_leaves_nothing() {
    let mut daemon = daemon();
    daemon.cais(&["network", "create", "own"]).unwrap();
    for (name, network) in [("one", "bridge"), ("two", "own")] {
        daemon
            .cais(&[
                "run",
                "-d",
                "--name",
                name,
                "--network",
                network,
                "-p",
                "127.0.0.1::80",
                "-v",
                "data:/data",
                "--restart",
                "always",
                "--ipc",
                "shareable",
                "busybox",
                "sleep",
                "1000",
            ])
            .unwrap();
    }
    daemon.cais(&["pause", "two"]).unwrap();
    let links = || {
        let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let subnet = format!("10.213.{}.", daemon.subnet().number());
    assert!(links().contains(&format!("{}:", daemon.name())));
    daemon.stop();
    assert_eq!(leftovers(&daemon), Vec::<String>::new());
    assert!(!links().contains(&format!("{}:", daemon.name())));
    let addresses = Command::new("ip").args(["-o", "address"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&addresses.stdout).contains(&subnet));
    let table = Command::new("nft")
        .args(["list", "table", "ip", &daemon.name()])
        .output()
        .unwrap();
    assert!(
        !table.status.success(),
        "{}",
        String::from_utf8_lossy(&table.stdout)
    );
    for controller in ["memory", "pids", "devices", "freezer", "systemd"] {
        let path = format!("/sys/fs/cgroup/{controller}/{}", daemon.name());
        assert!(!std::path::Path::new(&path).exists(), "{path}");
    }
}
