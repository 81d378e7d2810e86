//! Builds by clients as they are: docker with every parameter that the API has for builds, and docker-compose 1.29.

use cais_testkit::TestDaemon;

use crate::build::{Context, built, fails};
use crate::{daemon, inspect};

/// Builds a Dockerfile with docker's flags; its steps do the looking.
fn steps(daemon: &TestDaemon, dockerfile: &str, flags: &[&str]) -> String {
    let context = Context::new(&[("Dockerfile", dockerfile)]);
    built(daemon, &context, flags)
}

#[test]
fn limits_of_docker_build_reach_the_steps() {
    let daemon = daemon();
    let show = "FROM busybox\nRUN cat /proc/self/cgroup; d=/sys/fs/cgroup; \
                cat $d/memory/memory.limit_in_bytes $d/memory.max 2>/dev/null; \
                cat $d/cpu/cpu.shares $d/cpu/cpu.cfs_quota_us $d/cpu/cpu.cfs_period_us $d/cpu.weight $d/cpu.max 2>/dev/null; \
                echo cpus=$(sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status); \
                echo mems=$(sed -n 's/^Mems_allowed_list:\\t//p' /proc/self/status); \
                echo shm=$(df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2); \
                echo files=$(ulimit -n)\n";
    let output = steps(
        &daemon,
        show,
        &[
            "--memory=64m",
            "--memory-swap=64m",
            "--cpu-shares=512",
            "--cpu-period=50000",
            "--cpu-quota=25000",
            "--cpuset-cpus=0",
            "--cpuset-mems=0",
            "--shm-size=3m",
            "--ulimit=nofile=99:100",
        ],
    );
    let lines: Vec<&str> = output.lines().collect();
    for line in ["67108864", "cpus=0", "mems=0", "shm=3072", "files=99"] {
        assert!(lines.contains(&line), "{line}: {output}");
    }
    let first = lines.contains(&"512") && lines.contains(&"25000") && lines.contains(&"50000");
    assert!(first || lines.contains(&"25000 50000"), "{output}");
}

#[test]
fn docker_build_says_what_it_wants_in_each_parameter() {
    let daemon = daemon();
    let seen = "FROM busybox AS one\nARG A\nRUN echo a=$A; grep -h 10.1.2.3 /etc/hosts\nFROM one\nRUN exit 9\n";
    let flags = [
        "--target=one",
        "--build-arg=A=b",
        "--add-host=other:10.1.2.3",
        "--label=l=m",
        "--tag=parameters:1",
        "--tag=parameters:2",
        "--platform=linux/amd64",
        "--network=none",
        "--no-cache",
        "--security-opt=no-new-privileges",
        "--rm=false",
    ];
    let output = steps(&daemon, seen, &flags);
    assert!(output.contains("\na=b\n"), "{output}");
    assert!(output.contains("10.1.2.3\tother\n"), "{output}");
    let label = inspect(&daemon, "parameters:2", "{{.Config.Labels.l}}");
    assert_eq!(label, "m");
    let kept = daemon.docker(&["ps", "-aq"]).unwrap();
    assert_eq!(kept.lines().count(), 1, "--rm=false keeps the container");
    daemon.docker(&["rm", kept.trim()]).unwrap();
    let context = Context::new(&[("Dockerfile", seen)]);
    let (code, _) = fails(
        &daemon,
        &context,
        &["--force-rm", "--add-host=other:10.1.2.3"],
    );
    assert_eq!(code, 9);
    assert_eq!(daemon.docker(&["ps", "-aq"]).unwrap(), "");
    let quiet = steps(&daemon, "FROM busybox\nRUN echo x\n", &["--quiet"]);
    assert!(
        quiet.starts_with("sha256:") && quiet.lines().count() == 1,
        "{quiet}"
    );
    let parent = format!("--cgroup-parent=/{}/builds", daemon.name());
    let output = steps(
        &daemon,
        "FROM busybox\nRUN cat /proc/self/cgroup\n",
        &[&parent],
    );
    assert!(output.contains("Successfully built"), "{output}");
    let file = context.write("other/File", "FROM busybox\nCMD [\"other\"]\n");
    let iid = context.path().join("iid");
    let flags = [
        format!("--file={}", file.display()),
        format!("--iidfile={}", iid.display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    built(&daemon, &context, &flags);
    let id = std::fs::read_to_string(iid).unwrap();
    assert_eq!(inspect(&daemon, &id, "{{json .Config.Cmd}}"), "[\"other\"]");
}

#[test]
fn docker_compose_builds_its_services() {
    let daemon = daemon();
    let project = Context::new(&[
        (
            "docker-compose.yml",
            "version: '3.7'\nservices:\n  plain:\n    build: app\n  full:\n    image: composed:1\n    build:\n      \
             context: app\n      dockerfile: Other\n      target: wanted\n      args:\n        WHO: compose\n      \
             labels:\n        made: by-compose\n    shm_size: 1m\n",
        ),
        ("app/Dockerfile", "FROM busybox\nCOPY file /file\n"),
        (
            "app/Other",
            "FROM busybox AS wanted\nARG WHO\nRUN echo $WHO >/who\nFROM busybox\nRUN false\n",
        ),
        ("app/file", "content\n"),
    ]);
    let file = project.path().join("docker-compose.yml");
    let file = file.to_string_lossy();
    let name = format!("b{}", daemon.subnet().number());
    let compose = |args: &[&str]| {
        let args = [&["-f", &file, "-p", &name], args].concat();
        let mut command = daemon.client("docker-compose", &args);
        command.env("COMPOSE_DOCKER_CLI_BUILD", "0");
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let output = compose(&["build", "--no-cache"]);
    assert!(
        output.contains("Successfully tagged composed:1"),
        "{output}"
    );
    let made = inspect(&daemon, "composed:1", "{{.Config.Labels.made}}");
    assert_eq!(made, "by-compose");
    assert_eq!(
        compose(&["run", "--rm", "-T", "full", "cat", "/who"]),
        "compose\n"
    );
    assert_eq!(
        compose(&["run", "--rm", "-T", "plain", "cat", "/file"]),
        "content\n"
    );
    compose(&["down", "--rmi", "all"]);
    assert_eq!(daemon.cais(&["images", "-q", "composed"]).unwrap(), "");
}
