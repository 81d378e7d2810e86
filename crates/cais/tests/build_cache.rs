//! What builds leave for the next ones: shown, measured, and pruned by rule.

use std::process::Command;

use cais_testkit::{TestDaemon, wait_until};
use serde_json::Value;

use crate::build::{Context, build, built, cached};
use crate::daemon;

const MIB: i64 = 1 << 20;

fn records(daemon: &TestDaemon) -> Vec<Value> {
    let path = "http://localhost/v1.44/system/df?type=build-cache";
    let output = Command::new("curl")
        .args(["-fsS", "--unix-socket"])
        .arg(daemon.scratch().join("s"))
        .arg(path)
        .output()
        .unwrap();
    let usage: Value = serde_json::from_slice(&output.stdout).unwrap();
    usage["BuildCache"].as_array().unwrap().clone()
}

fn sizes(daemon: &TestDaemon, kind: &str) -> Vec<i64> {
    let records = records(daemon);
    let records = records.iter().filter(|record| record["Type"] == kind);
    let mut sizes: Vec<i64> = records.map(|one| one["Size"].as_i64().unwrap()).collect();
    sizes.sort_unstable();
    sizes
}

fn prune(daemon: &TestDaemon, flags: &[&str]) -> String {
    daemon
        .cais(&[&["builder", "prune", "-f"], flags].concat())
        .unwrap()
}

fn layer_bytes(daemon: &TestDaemon) -> i64 {
    let sum = |directory: std::path::PathBuf| {
        let output = Command::new("du")
            .arg("-sb")
            .arg(directory)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace()
            .next()
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    sum(daemon.data_root().join("layers"))
}

#[test]
fn pruning_frees_what_no_image_has() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN head -c 3145728 /dev/urandom >/three\nRUN head -c 2097152 /dev/urandom >/two\n",
    )]);
    let before = layer_bytes(&daemon);
    built(&daemon, &context, &["-t", "kept"]);
    assert_eq!(sizes(&daemon, "regular"), [2 * MIB, 3 * MIB]);
    assert!(records(&daemon).iter().all(|one| one["Shared"] == true));
    let nothing = prune(&daemon, &[]);
    assert_eq!(
        nothing, "Total reclaimed space: 0B\n",
        "an image has it all"
    );
    assert_eq!(cached(&built(&daemon, &context, &["-t", "kept"])), 2);
    daemon.cais(&["tag", "busybox", "kept"]).unwrap();
    assert!(records(&daemon).iter().all(|one| one["Shared"] == false));
    let pruned = prune(&daemon, &[]);
    assert!(
        pruned.starts_with("Deleted build cache objects:\n"),
        "{pruned}"
    );
    assert!(
        pruned.ends_with("Total reclaimed space: 5.243MB\n"),
        "{pruned}"
    );
    assert!(records(&daemon).is_empty());
    wait_until("the layers are gone", || {
        layer_bytes(&daemon) - before < MIB
    });
    // What an image has stays with it, also when its records go.
    built(&daemon, &context, &["-t", "kept"]);
    assert!(prune(&daemon, &["--all"]).ends_with("Total reclaimed space: 0B\n"));
    let whole = daemon.cais(&["run", "--rm", "kept", "wc", "-c", "/three"]);
    assert_eq!(whole.unwrap(), "3145728 /three\n");
    assert_eq!(cached(&built(&daemon, &context, &[])), 0);
}

#[test]
fn the_least_recently_used_go_down_to_a_size() {
    let daemon = daemon();
    let context = |name: &str, bytes: i64| {
        let text = format!("FROM busybox\nRUN head -c {bytes} /dev/urandom >/{name}\n");
        Context::new(&[("Dockerfile", &text)])
    };
    let (old, new) = (context("old", 3 * MIB), context("new", 2 * MIB));
    built(&daemon, &old, &[]);
    built(&daemon, &new, &[]);
    let bad = daemon.cais_output(&["builder", "prune", "-f", "--filter", "color=red"]);
    let bad = String::from_utf8(bad.unwrap().stderr).unwrap();
    assert!(bad.contains("invalid filter 'color'"), "{bad}");
    let none = "Total reclaimed space: 0B\n";
    assert_eq!(prune(&daemon, &["--filter", "until=1h"]), none);
    assert_eq!(prune(&daemon, &["--filter", "type=exec.cachemount"]), none);
    assert_eq!(prune(&daemon, &["--keep-storage", "6m"]), none);
    assert_eq!(prune(&daemon, &["--max-used-space", "6m"]), none);
    // Both were used within one second: the second build of one makes the order certain.
    wait_until("the old one is used later", || {
        assert_eq!(cached(&built(&daemon, &old, &[])), 1);
        let records = records(&daemon);
        let used = |size: i64| {
            let record = records
                .iter()
                .find(|record| record["Size"] == size)
                .unwrap();
            record["LastUsedAt"].as_str().unwrap().to_owned()
        };
        used(3 * MIB) > used(2 * MIB)
    });
    let pruned = prune(&daemon, &["--keep-storage", "4m"]);
    assert!(
        pruned.ends_with("Total reclaimed space: 2.097MB\n"),
        "{pruned}"
    );
    assert_eq!(sizes(&daemon, "regular"), [3 * MIB]);
    assert_eq!(cached(&built(&daemon, &old, &[])), 1);
}

#[test]
fn cache_mounts_are_shown_and_stay_while_a_step_uses_them() {
    let daemon = daemon();
    let text =
        |script: &str| format!("FROM busybox\nRUN --mount=type=cache,target=/c,id=mine {script}\n");
    let context = Context::new(&[("Dockerfile", &text("head -c 1048576 /dev/zero >/c/one"))]);
    built(&daemon, &context, &[]);
    let records = records(&daemon);
    let cache = records.iter().find(|one| one["Type"] == "exec.cachemount");
    let cache = cache.unwrap();
    assert_eq!(cache["Size"], MIB);
    assert_eq!(cache["Description"], "cached mount /c with id \"mine\"");
    assert_eq!(cache["InUse"], false);
    let go = "touch /c/running; until test -e /c/go; do sleep 0.1; done; test -e /c/one";
    context.write("Dockerfile", &text(go));
    let path = context.path().to_string_lossy().into_owned();
    let mut running = daemon
        .client("docker", &["build", &path])
        .env("DOCKER_BUILDKIT", "0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let caches = daemon.data_root().join("build/caches");
    let name = cache["ID"].as_str().unwrap();
    wait_until("the step runs", || {
        caches.join(name).join("running").exists()
    });
    let pruned = prune(&daemon, &["--all"]);
    assert!(!pruned.contains(name), "{pruned}");
    assert_eq!(sizes(&daemon, "exec.cachemount"), [MIB]);
    std::fs::write(caches.join(name).join("go"), "").unwrap();
    assert!(running.wait().unwrap().success(), "its files are all there");
    let pruned = prune(&daemon, &["--filter", "type=exec.cachemount"]);
    assert!(
        pruned.contains(name) && pruned.ends_with("1.049MB\n"),
        "{pruned}"
    );
    assert!(!caches.join(name).exists());
    let shown = daemon.cais(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert!(
        shown.unwrap().contains("Build Cache 1\n"),
        "the step that ran"
    );
    let again = build(&daemon, &context, &[]);
    assert!(again.status.success());
}
