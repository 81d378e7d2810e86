//! What cannot be done is refused with a word that names it, and nothing is left out in silence.

use serde_json::{Value, json};

use super::{Bundle, only_ours};

#[track_caller]
fn refused(field: &str, value: Value, word: &str) {
    let mut bundle = Bundle::idle();
    *bundle
        .config
        .pointer_mut(field.rsplit_once('/').unwrap().0)
        .unwrap() = {
        let (parent, name) = field.rsplit_once('/').unwrap();
        let mut parent = bundle.config.pointer(parent).unwrap().clone();
        parent[name] = value;
        parent
    };
    let error = bundle.must_not(&["create", &bundle.id]);
    assert!(error.contains(word), "{field}: {error}");
    assert!(!bundle.cgroup("memory").exists());
}

#[test]
fn fields_of_the_specification() {
    only_ours!("other runtimes use other words or know less");
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let memory = json!({"mode": "MPOL_NOTHING"});
    let limits = json!([
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
    ]);
    for (field, value, word) in [
        ("/linux/netDevices", json!({"eth0": {}}), "netDevices"),
        ("/linux/intelRdt", json!({"closID": "x"}), "intelRdt"),
        ("/linux/mountLabel", json!("x"), "selinux"),
        ("/linux/memoryPolicy", memory, "memory policy"),
        ("/linux/uidMappings", map, "user namespace"),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1}}),
            "time namespace",
        ),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        (
            "/linux/personality",
            json!({"domain": "SOLARIS"}),
            "personality",
        ),
        ("/process/rlimits", limits, "duplicate rlimit"),
        ("/process/selinuxLabel", json!("x"), "selinux"),
        ("/process/apparmorProfile", json!("x"), "apparmor"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_NOTHING"}),
            "scheduler",
        ),
        (
            "/process/ioPriority",
            json!({"class": "NOTHING"}),
            "ioPriority",
        ),
        ("/process/args", json!([]), "args"),
        ("/process/cwd", json!("relative"), "absolute path"),
    ] {
        refused(field, value, word);
    }
}

#[test]
fn namespaces_that_make_no_sense() {
    let mut bundle = Bundle::idle();
    bundle.linux()["namespaces"] = json!([{"type": "pid"}, {"type": "pid"}, {"type": "mount"}]);
    bundle.must_not(&["create", &bundle.id]);
    bundle.linux()["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}]);
    let error = bundle.must_not(&["create", &bundle.id]);
    assert!(
        error.contains("UTS") || error.contains("hostname"),
        "{error}"
    );
}

#[test]
fn a_configuration_that_is_none() {
    let bundle = Bundle::idle();
    let mut command = bundle.command(&["create", &bundle.id]);
    std::fs::write(bundle.path().join("config.json"), "{").unwrap();
    assert!(!command.output().unwrap().status.success());
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn words_that_are_no_flags() {
    let bundle = Bundle::idle();
    for words in [
        &["create", "--nothing", "x"][..],
        &["nothing"],
        &["state"],
        &["update", "--memory"],
    ] {
        bundle.must_not(words);
    }
    only_ours!("what another runtime has built in is its own");
    for words in [&["checkpoint", "x"][..], &["create", "--no-pivot", "x"]] {
        let error = bundle.must_not(words);
        assert!(error.contains("not supported"), "{error}");
    }
}
