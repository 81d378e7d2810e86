//! config.md, "Process".

use std::fs;

use serde_json::json;

use super::bundle::{status_field, wait_for};
use super::{Bundle, only_ours};

#[test]
fn user_and_groups() {
    let mut bundle = Bundle::idle();
    bundle.process()["user"] = json!({"uid": 12, "gid": 34, "additionalGids": [56, 78]});
    let pid = bundle.start();
    assert_eq!(status_field(pid, "Uid"), "12\t12\t12\t12");
    assert_eq!(status_field(pid, "Gid"), "34\t34\t34\t34");
    assert_eq!(status_field(pid, "Groups"), "56 78");
}

#[test]
fn groups_of_the_caller_do_not_stay() {
    let bundle = Bundle::idle();
    assert_eq!(status_field(bundle.start(), "Groups"), "");
}

#[test]
fn umask() {
    let mut bundle = Bundle::new("umask; umask 0; sleep 300");
    bundle.process()["user"]["umask"] = json!(0o27);
    let mut run = Bundle::new("umask");
    run.process()["user"]["umask"] = json!(0o27);
    assert_eq!(run.run(), "0027\n");
}

#[test]
fn directory_environment_and_arguments() {
    let mut bundle = Bundle::new("");
    bundle.process()["cwd"] = json!("/made/for/it");
    bundle.process()["env"] = json!(["PATH=/bin", "NAME=a value"]);
    bundle.process()["args"] = json!([
        "sh",
        "-c",
        "pwd; echo \"$NAME\"; echo \"$1\"; env | wc -l",
        "x",
        "two words"
    ]);
    let text = bundle.run();
    assert!(
        text.starts_with("/made/for/it\na value\ntwo words\n"),
        "{text}"
    );
}

#[test]
fn capabilities() {
    let mut bundle = Bundle::idle();
    bundle.process()["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
    });
    let pid = bundle.start();
    assert_eq!(status_field(pid, "CapBnd"), "00000000000000a1");
    // Root's execve(2) gives it all of the bounding set.
    assert_eq!(status_field(pid, "CapPrm"), "00000000000000a1");
    assert_eq!(status_field(pid, "CapAmb"), "0000000000000000");
}

#[test]
fn ambient_capabilities_reach_a_user() {
    let mut bundle = Bundle::idle();
    bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    let sets = ["CAP_NET_BIND_SERVICE"];
    bundle.process()["capabilities"] = json!({
        "bounding": sets, "permitted": sets, "effective": sets, "inheritable": sets, "ambient": sets,
    });
    let pid = bundle.start();
    assert_eq!(status_field(pid, "CapEff"), "0000000000000400");
    assert_eq!(status_field(pid, "CapAmb"), "0000000000000400");
}

#[test]
fn a_user_without_ambient_ones_has_no_capabilities() {
    let mut bundle = Bundle::idle();
    bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    let pid = bundle.start();
    assert_eq!(status_field(pid, "CapEff"), "0000000000000000");
    assert_eq!(status_field(pid, "CapPrm"), "0000000000000000");
}

#[test]
fn resource_limits() {
    let mut bundle = Bundle::idle();
    bundle.process()["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 99, "hard": 111},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]);
    let pid = bundle.start();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(line("Max open files")[..2], ["99", "111"]);
    assert_eq!(line("Max core file size")[..2], ["0", "0"]);
}

#[test]
fn no_new_privileges() {
    for wanted in [false, true] {
        let mut bundle = Bundle::idle();
        bundle.process()["noNewPrivileges"] = json!(wanted);
        let pid = bundle.start();
        assert_eq!(
            status_field(pid, "NoNewPrivs"),
            u8::from(wanted).to_string()
        );
    }
}

#[test]
fn oom_score_adjustment() {
    let mut bundle = Bundle::idle();
    bundle.process()["oomScoreAdj"] = json!(777);
    let pid = bundle.start();
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score, "777\n");
}

#[test]
fn host_and_domain_name() {
    let mut bundle = Bundle::new("hostname; cat /proc/sys/kernel/domainname");
    assert!(bundle.run().starts_with("quay\n"));
    only_ours!("domainname came with specification 1.1");
    bundle.config["domainname"] = json!("harbour");
    assert_eq!(bundle.run(), "quay\nharbour\n");
}

#[test]
fn standard_streams_belong_to_the_user() {
    let mut bundle = Bundle::new("echo again >/dev/stderr");
    bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    let output = bundle.command(&["run", &bundle.id]).output().unwrap();
    assert_eq!(output.stderr, b"again\n");
}

#[test]
fn scheduler_and_io_priority() {
    only_ours!("they came with specification 1.1");
    let mut bundle = Bundle::idle();
    bundle.process()["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bundle.process()["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    let pid = bundle.start();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // Fields 19 (nice) and 41 (policy) of proc_pid_stat(5).
    assert_eq!(fields[16], "5");
    assert_eq!(fields[38], "3");
    assert_eq!(
        bundle.must(&["exec", &bundle.id, "ionice", "-p", "1"]),
        "idle\n"
    );
}

#[test]
fn affinity_of_execs() {
    only_ours!("execCPUAffinity came with specification 1.3");
    let bundle = Bundle::idle();
    bundle.start();
    let file = bundle.path().join("process.json");
    let process = json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["grep", "Cpus_allowed_list", "/proc/self/status"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "execCPUAffinity": {"initial": "0-1", "final": "1"},
    });
    fs::write(&file, process.to_string()).unwrap();
    let text = bundle.must(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(text, "Cpus_allowed_list:\t1\n");
}

#[test]
fn a_session_and_a_group_of_its_own() {
    let bundle = Bundle::idle();
    let pid = bundle.start();
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_for(|| stat().contains("(sleep)"));
    let fields: Vec<_> = stat()
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(fields[3], pid.to_string(), "session");
}
