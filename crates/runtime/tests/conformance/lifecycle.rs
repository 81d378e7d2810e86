//! runtime.md: operations and states.

use std::fs;
use std::path::Path;

use super::Bundle;
use super::bundle::wait_for;

#[test]
fn create_prepares_all_and_runs_nothing() {
    let bundle = Bundle::new("echo ran >/proof; sleep 300");
    bundle.must(&["create", &bundle.id]);
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
    let pid = bundle.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(bundle.cgroup("memory").exists());
    assert!(!bundle.rootfs().join("proof").exists());
    bundle.must(&["start", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.pid(), pid);
    wait_for(|| bundle.rootfs().join("proof").exists());
}

#[test]
fn the_end_of_the_program_is_the_stopped_state() {
    let bundle = Bundle::new("exit 0");
    bundle.must(&["create", &bundle.id]);
    bundle.must(&["start", &bundle.id]);
    bundle.wait_stopped();
    assert_eq!(bundle.state()["pid"].as_i64().unwrap_or(0), 0);
    bundle.must(&["delete", &bundle.id]);
    bundle.must_not(&["state", &bundle.id]);
}

#[test]
fn create_refuses_an_id_that_is_taken() {
    let bundle = Bundle::idle();
    let pid = bundle.start();
    let error = bundle.must_not(&["create", &bundle.id]);
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(bundle.pid(), pid);
}

#[test]
fn create_refuses_ids_that_are_paths() {
    let bundle = Bundle::idle();
    for id in ["../x", "a/b", "a b", "."] {
        bundle.must_not(&["create", id]);
    }
}

#[test]
fn create_without_a_bundle_fails() {
    let bundle = Bundle::idle();
    let error = bundle.must_not(&["create", "--bundle", "/nonexistent", &bundle.id]);
    assert!(error.to_lowercase().contains("no such file"), "{error}");
    bundle.must_not(&["state", &bundle.id]);
}

#[test]
fn operations_on_what_is_not_there_fail() {
    let bundle = Bundle::idle();
    for words in [
        &["state", "nobody"][..],
        &["start", "nobody"],
        &["kill", "nobody", "9"],
        &["delete", "nobody"],
        &["exec", "nobody", "true"],
        &["pause", "nobody"],
    ] {
        let error = bundle.must_not(words);
        assert!(error.contains("does not exist"), "{words:?}: {error}");
    }
    bundle.must(&["delete", "--force", "nobody"]);
}

#[test]
fn start_works_once() {
    let bundle = Bundle::idle();
    bundle.start();
    bundle.must_not(&["start", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    bundle.must(&["kill", &bundle.id, "KILL"]);
    bundle.wait_stopped();
    let error = bundle.must_not(&["start", &bundle.id]);
    assert!(
        error.contains("cannot start a container that has stopped"),
        "{error}"
    );
}

#[test]
fn kill_sends_the_signal_to_init() {
    for signal in ["TERM", "SIGTERM", "15"] {
        let bundle =
            Bundle::new("trap 'echo got >/proof; exit 0' TERM; echo up >/up; sleep 300 & wait");
        bundle.start();
        wait_for(|| bundle.rootfs().join("up").exists());
        bundle.must(&["kill", &bundle.id, signal]);
        bundle.wait_stopped();
        assert!(bundle.rootfs().join("proof").exists(), "{signal}");
    }
}

#[test]
fn kill_refuses_the_stopped_and_the_unknown() {
    let bundle = Bundle::new("exit 0");
    bundle.must(&["create", &bundle.id]);
    bundle.must_not(&["kill", &bundle.id, "NOTHING"]);
    bundle.must(&["start", &bundle.id]);
    bundle.wait_stopped();
    let error = bundle.must_not(&["kill", &bundle.id, "KILL"]);
    assert!(error.contains("not running"), "{error}");
}

#[test]
fn kill_works_before_the_start() {
    let bundle = Bundle::idle();
    bundle.must(&["create", &bundle.id]);
    bundle.must(&["kill", &bundle.id, "KILL"]);
    bundle.wait_stopped();
}

#[test]
fn delete_refuses_the_running() {
    let bundle = Bundle::idle();
    let pid = bundle.start();
    let error = bundle.must_not(&["delete", &bundle.id]);
    assert!(error.contains("not stopped"), "{error}");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn delete_by_force_leaves_nothing() {
    let bundle = Bundle::idle();
    let pid = bundle.start();
    bundle.must(&["delete", "--force", &bundle.id]);
    wait_for(|| !Path::new(&format!("/proc/{pid}")).exists());
    for controller in ["memory", "pids", "cpu", "devices", "freezer", "unified"] {
        assert!(!bundle.cgroup(controller).exists(), "{controller}");
    }
    assert!(!bundle.path().join("state").join(&bundle.id).exists());
    bundle.must_not(&["state", &bundle.id]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let mut bundle = Bundle::idle();
    bundle.process()["args"] = serde_json::json!(["/nothing/here"]);
    let error = bundle.must_not(&["create", &bundle.id]);
    assert!(error.contains("no such file or directory"), "{error}");
    assert!(!bundle.cgroup("memory").exists());
    assert!(!bundle.path().join("state").join(&bundle.id).exists());
}

#[test]
fn an_id_is_free_again_after_delete() {
    let bundle = Bundle::idle();
    for _ in 0..2 {
        bundle.start();
        bundle.must(&["kill", &bundle.id, "KILL"]);
        bundle.wait_stopped();
        bundle.must(&["delete", &bundle.id]);
    }
}

#[test]
fn changes_of_the_bundle_do_not_reach_a_created_container() {
    let mut bundle = Bundle::new("echo first >/proof; sleep 300");
    bundle.must(&["create", &bundle.id]);
    bundle.process()["args"] = serde_json::json!(["sh", "-c", "echo second >/proof"]);
    bundle.must(&["start", &bundle.id]);
    let proof = bundle.rootfs().join("proof");
    wait_for(|| fs::read_to_string(&proof).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(fs::read_to_string(&proof).unwrap(), "first\n");
}
