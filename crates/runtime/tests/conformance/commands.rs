//! The commands beside the specification's: run, exec, ps, list, pause, update, events, spec, features, and the log.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::Bundle;
use super::bundle::{is_ours, namespace, status_field, wait_for};

#[test]
fn run_answers_the_exit_code() {
    assert_eq!(code(&Bundle::new("exit 7"), &["run"]), 7);
    assert_eq!(
        code(
            &Bundle::new("exec sleep 300 & kill -9 $!; wait $!; exit $?"),
            &["run"]
        ),
        137
    );
}

fn code(bundle: &Bundle, words: &[&str]) -> i32 {
    let words: Vec<_> = words.iter().copied().chain([bundle.id.as_str()]).collect();
    bundle.runtime(&words).status.code().unwrap()
}

#[test]
fn run_passes_streams_and_removes_the_container() {
    let bundle = Bundle::new("cat; echo error >&2");
    let mut child = bundle
        .command(&["run", &bundle.id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through");
    assert_eq!(output.stderr, b"error\n");
    bundle.must_not(&["state", &bundle.id]);
    assert!(!bundle.cgroup("memory").exists());
}

#[test]
fn run_passes_signals_on() {
    let bundle = Bundle::new("trap 'exit 9' TERM; echo up >/up; sleep 300 & wait");
    let mut child = bundle.spawn(&["run", &bundle.id]);
    wait_for(|| bundle.rootfs().join("up").exists());
    cais_sys::signals::kill(i32::try_from(child.id()).unwrap(), 15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn run_detached_comes_back_and_writes_the_pid() {
    let bundle = Bundle::idle();
    let file = bundle.path().join("pid");
    bundle.must(&[
        "run",
        "--detach",
        "--pid-file",
        file.to_str().unwrap(),
        &bundle.id,
    ]);
    assert_eq!(bundle.status(), "running");
    assert_eq!(fs::read_to_string(file).unwrap(), bundle.pid().to_string());
}

#[test]
fn a_missing_program_is_told_and_logged() {
    let mut bundle = Bundle::idle();
    bundle.process()["args"] = json!(["nosuch"]);
    let log = bundle.path().join("log.json");
    let log_flag = log.to_str().unwrap();
    bundle.must_not(&[
        "--log",
        log_flag,
        "--log-format",
        "json",
        "create",
        &bundle.id,
    ]);
    let text = fs::read_to_string(log).unwrap();
    let last: Value = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .rfind(|line| line["level"] == "error")
        .unwrap();
    let message = last["msg"].as_str().unwrap();
    assert!(
        message.contains("exec: \"nosuch\": executable file not found in $PATH"),
        "{message}"
    );
    assert!(last["time"].is_string());
}

#[test]
fn exec_joins_every_namespace_and_cgroup() {
    let bundle = Bundle::idle();
    let init = bundle.start();
    let file = bundle.path().join("exec.pid");
    let flag = file.to_str().unwrap();
    bundle.must(&[
        "exec",
        "--detach",
        "--pid-file",
        flag,
        &bundle.id,
        "sleep",
        "300",
    ]);
    let pid = fs::read_to_string(&file).unwrap();
    for kind in ["pid", "net", "ipc", "uts", "mnt"] {
        assert_eq!(
            namespace(&pid, kind),
            namespace(&init.to_string(), kind),
            "{kind}"
        );
        assert_ne!(namespace(&pid, kind), namespace("self", kind), "{kind}");
    }
    let groups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let groups = (groups(&pid), groups(&init.to_string()));
    assert!(groups.0.contains(&bundle.id));
    let memory = |text: &str| {
        let line = text.lines().find(|line| line.contains(":memory:"));
        line.map(str::to_owned)
    };
    assert_eq!(memory(&groups.0), memory(&groups.1));
    let processes: Vec<i32> =
        serde_json::from_str(&bundle.must(&["ps", "--format", "json", &bundle.id])).unwrap();
    assert!(processes.contains(&init) && processes.contains(&pid.parse().unwrap()));
    let table = bundle.must(&["ps", &bundle.id]);
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn exec_answers_the_exit_code() {
    let bundle = Bundle::idle();
    bundle.start();
    let output = bundle.runtime(&["exec", &bundle.id, "sh", "-c", "echo inside; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"inside\n");
    let output = bundle.runtime(&["exec", &bundle.id, "nosuch"]);
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("executable file not found in $PATH"));
}

#[test]
fn exec_takes_user_directory_and_environment() {
    let bundle = Bundle::idle();
    bundle.start();
    let text = bundle.must(&[
        "exec",
        "--user",
        "5:6",
        "--additional-gids",
        "7",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        &bundle.id,
        "sh",
        "-c",
        "id -u; id -g; id -G; pwd; echo $A",
    ]);
    assert_eq!(text, "5\n6\n6 7\n/tmp\nb\n");
}

#[test]
fn exec_takes_a_process_file() {
    let bundle = Bundle::idle();
    bundle.start();
    let file = bundle.path().join("process.json");
    let process = json!({
        "user": {"uid": 9, "gid": 9},
        "args": ["sh", "-c", "grep -E 'CapBnd|NoNewPrivs|^Uid' /proc/self/status"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_KILL"]},
    });
    fs::write(&file, process.to_string()).unwrap();
    let text = bundle.must(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert!(text.contains("Uid:\t9\t9\t9\t9"), "{text}");
    assert!(text.contains("CapBnd:\t0000000000000020"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
}

#[test]
fn exec_refuses_the_stopped_and_the_paused() {
    let bundle = Bundle::idle();
    bundle.start();
    bundle.must(&["pause", &bundle.id]);
    let error = bundle.must_not(&["exec", &bundle.id, "true"]);
    assert!(error.contains("paused"), "{error}");
    bundle.must(&["resume", &bundle.id]);
    bundle.must(&["exec", &bundle.id, "true"]);
    bundle.must(&["kill", &bundle.id, "KILL"]);
    bundle.wait_stopped();
    let error = bundle.must_not(&["exec", &bundle.id, "true"]);
    assert!(error.contains("stopped"), "{error}");
}

#[test]
fn pause_freezes_every_process() {
    let bundle = Bundle::new("while true; do touch /beat; done");
    let pid = bundle.start();
    bundle.must(&["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    let ticks = || fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_eq!(ticks(), before);
    bundle.must(&["resume", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    wait_for(|| ticks() != before);
    bundle.must_not(&["resume", &bundle.id]);
}

#[test]
fn kill_all_reaches_every_process() {
    let bundle = Bundle::idle();
    bundle.start();
    let file = bundle.path().join("exec.pid");
    let flag = file.to_str().unwrap();
    bundle.must(&["exec", "-d", "--pid-file", flag, &bundle.id, "sleep", "300"]);
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let sleeper = cais_sys::pidfd::open(pid).unwrap();
    bundle.must(&["kill", "--all", &bundle.id, "KILL"]);
    assert!(cais_sys::pidfd::wait_end(std::os::fd::AsFd::as_fd(&sleeper), 20_000).unwrap());
    bundle.wait_stopped();
}

#[test]
fn update_changes_limits() {
    let bundle = Bundle::idle();
    bundle.start();
    bundle.must(&[
        "update",
        "--memory",
        "67108864",
        "--pids-limit",
        "33",
        &bundle.id,
    ]);
    let read = |controller: &str, file: &str| {
        fs::read_to_string(bundle.cgroup(controller).join(file)).unwrap()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes"), "67108864\n");
    assert_eq!(read("pids", "pids.max"), "33\n");
    let file = bundle.path().join("resources.json");
    fs::write(
        &file,
        r#"{"cpu":{"quota":50000,"period":100000,"shares":512}}"#,
    )
    .unwrap();
    bundle.must(&["update", "--resources", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000\n");
    assert_eq!(read("cpu", "cpu.shares"), "512\n");
    assert_eq!(read("pids", "pids.max"), "33\n");
}

#[test]
fn events_tell_figures_of_the_kernel() {
    let mut bundle = Bundle::idle();
    bundle.linux()["resources"]["memory"] = json!({"limit": 67_108_864});
    bundle.start();
    let text = bundle.must(&["events", "--stats", &bundle.id]);
    let event: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], bundle.id.as_str());
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(event["data"]["pids"]["current"], 1);
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
}

#[test]
fn list_shows_containers() {
    let bundle = Bundle::idle();
    assert_eq!(bundle.must(&["list", "--format", "json"]).trim(), "null");
    let pid = bundle.start();
    let list: Value = serde_json::from_str(&bundle.must(&["list", "-f", "json"])).unwrap();
    assert_eq!(list[0]["id"], bundle.id.as_str());
    assert_eq!(list[0]["pid"], pid);
    assert_eq!(list[0]["status"], "running");
    assert_eq!(bundle.must(&["list", "-q"]).trim(), bundle.id);
    let table = bundle.must(&["list"]);
    assert!(table.starts_with("ID  "), "{table}");
    assert!(table.contains(&bundle.id));
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let mut bundle = Bundle::idle();
    let directory = bundle.path().join("fresh");
    fs::create_dir(&directory).unwrap();
    let flag = directory.to_str().unwrap();
    bundle.must(&["spec", "--bundle", flag]);
    bundle.must_not(&["spec", "--bundle", flag]);
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let cgroups = bundle.config["linux"]["cgroupsPath"].clone();
    bundle.config = serde_json::from_str(&text).unwrap();
    bundle.linux()["cgroupsPath"] = cgroups;
    bundle.process()["terminal"] = json!(false);
    bundle.process()["args"] = json!(["echo", "works"]);
    fs::create_dir(bundle.rootfs().join("proc")).unwrap();
    assert_eq!(bundle.run(), "works\n");
}

#[test]
fn features_and_version_are_told() {
    let bundle = Bundle::idle();
    let features: Value = serde_json::from_str(&bundle.must(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(
        features["hooks"]
            .as_array()
            .unwrap()
            .contains(&json!("createContainer"))
    );
    assert!(
        features["mountOptions"]
            .as_array()
            .unwrap()
            .contains(&json!("rbind"))
    );
    let version = bundle.must(&["--version"]);
    assert!(
        version.lines().next().unwrap().contains(" version "),
        "{version}"
    );
    assert!(version.contains("\nspec: "), "{version}");
}

#[test]
fn preserved_descriptors_reach_the_program_and_no_others() {
    let bundle = Bundle::new("ls /proc/self/fd; cat <&3");
    let file = bundle.path().join("given");
    fs::write(&file, "given").unwrap();
    let given = fs::File::open(&file).unwrap();
    let script = format!("exec 3<&{0} 5</dev/zero; exec \"$@\"", given.as_raw_fd());
    rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).unwrap();
    let inner = bundle.command(&["run", "--preserve-fds", "1", &bundle.id]);
    let output = std::process::Command::new("bash")
        .args(["-c", &script, "bash"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(bundle.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // 0, 1, 2, 3, and the one that ls reads the directory with.
    assert_eq!(text, "0\n1\n2\n3\n4\ngiven", "{output:?}");
}

#[test]
fn the_program_does_not_hold_the_runtimes_descriptors() {
    let bundle = Bundle::idle();
    let pid = bundle.start();
    let numbers: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    assert_eq!(status_field(pid, "SigBlk"), "0000000000000000");
    let ignored = u64::from_str_radix(&status_field(pid, "SigIgn"), 16).unwrap();
    // Signal 32 is the C library's; other runtimes leave it as they found it.
    let all = if is_ours() { u64::MAX } else { 0x7fff_ffff };
    assert_eq!(ignored & all, 0);
}
