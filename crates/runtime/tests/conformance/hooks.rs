//! config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Bundle, only_ours};

/// A hook that writes its name and the state it reads to a file outside.
fn note(bundle: &Bundle, name: &str) -> Value {
    let file = notes(bundle);
    // The file of a hook inside the container's root is `/notes`.
    let script = format!(
        "state=$(cat); if [ -e {0} ]; then f={0}; else f=/notes; fi; echo \"{name} $state\" >>$f",
        file.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

fn notes(bundle: &Bundle) -> PathBuf {
    bundle.rootfs().join("notes")
}

fn told(bundle: &Bundle) -> Vec<(String, Value)> {
    let text = fs::read_to_string(notes(bundle)).unwrap();
    text.lines()
        .map(|line| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_owned(), serde_json::from_str(state).unwrap())
        })
        .collect()
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let mut bundle = Bundle::idle();
    fs::write(notes(&bundle), "").unwrap();
    bundle.config["annotations"] = json!({"a": "b"});
    let names = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let hooks = names.map(|name| (name.to_owned(), json!([note(&bundle, name)])));
    bundle.config["hooks"] = Value::Object(hooks.into_iter().collect());
    bundle.must(&["run", "--detach", &bundle.id]);
    let pid = bundle.pid();
    bundle.must(&["kill", &bundle.id, "KILL"]);
    bundle.wait_stopped();
    bundle.must(&["delete", &bundle.id]);
    let told = told(&bundle);
    let mut order: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    if !super::bundle::is_ours() {
        // runc 1.1 runs poststart before the start.
        order.sort_by_key(|name| names.iter().position(|other| other == name));
    }
    assert_eq!(order, names);
    for (name, state) in &told {
        assert_eq!(state["id"], bundle.id.as_str(), "{name}");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap(), "{name}");
        assert_eq!(state["annotations"]["a"], "b", "{name}");
    }
    let state = |wanted: &str| &told.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert_eq!(state("createRuntime")["status"], "creating");
    assert_eq!(state("createRuntime")["pid"], pid);
    assert_eq!(state("startContainer")["status"], "created");
    assert_eq!(state("poststop")["status"], "stopped");
}

#[test]
fn the_maker_s_hooks_see_the_mounts_in_the_container_s_namespace() {
    let mut bundle = Bundle::idle();
    bundle.mount(json!({"destination": "/mounted", "type": "tmpfs", "source": "tmpfs"}));
    let seen = bundle.path().join("seen");
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); grep -c mounted /proc/$pid/mountinfo >{0}; readlink /proc/self/ns/mnt >>{0}",
        seen.display()
    );
    bundle.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]},
    ]});
    bundle.must(&["create", &bundle.id]);
    let text = fs::read_to_string(seen).unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(text, format!("1\n{}\n", own.display()));
}

#[test]
fn a_hook_that_fails_ends_the_creation() {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::idle();
        bundle.config["hooks"] = json!({point: [{"path": "/bin/false"}]});
        let error = bundle.must_not(&["create", &bundle.id]);
        assert!(error.contains("hook"), "{point}: {error}");
        bundle.must_not(&["state", &bundle.id]);
        assert!(!bundle.cgroup("memory").exists(), "{point}");
    }
}

#[test]
fn a_hook_has_limited_time() {
    let mut bundle = Bundle::idle();
    bundle.config["hooks"] = json!({"prestart": [
        {"path": "/bin/sleep", "args": ["sleep", "300"], "timeout": 1},
    ]});
    let began = std::time::Instant::now();
    bundle.must_not(&["create", &bundle.id]);
    assert!(began.elapsed().as_secs() < 60);
}

#[test]
fn a_poststop_hook_that_fails_does_not_keep_the_container() {
    let mut bundle = Bundle::new("exit 0");
    fs::write(notes(&bundle), "").unwrap();
    bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/false"}, note(&bundle, "second")]});
    bundle.must(&["run", "--detach", &bundle.id]);
    bundle.wait_stopped();
    bundle.must(&["delete", &bundle.id]);
    bundle.must_not(&["state", &bundle.id]);
    only_ours!("runc 1.1 leaves out the hooks after the one that fails");
    assert_eq!(told(&bundle).len(), 1);
}

#[test]
fn a_start_container_hook_that_fails_is_told_by_start() {
    only_ours!("runc 1.1 finds it out too late");
    let mut bundle = Bundle::idle();
    bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
    bundle.must(&["create", &bundle.id]);
    let error = bundle.must_not(&["start", &bundle.id]);
    assert!(error.contains("startContainer hook"), "{error}");
    bundle.wait_stopped();
}
