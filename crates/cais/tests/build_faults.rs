//! Builds while others prune, and builds whose client, daemon, disk or step goes away.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cais_testkit::{TestDaemon, wait_until};

use crate::build::{Context, build, built, fails};
use crate::build_cache::collecting;
use crate::disk::Disk;
use crate::kills::assert_nothing_left;
use crate::{CAIS, daemon};

/// Builds that run at the same time.
const BUILDERS: usize = 3;

/// A build whose steps stand on each other; it fails by itself if one of them lost something.
fn file(builder: usize, round: usize) -> String {
    format!(
        "FROM busybox AS first\n\
         RUN echo shared >/shared\n\
         COPY file /file\n\
         RUN echo {builder} {round} >/own\n\
         FROM busybox\n\
         ENV ROUND={round}\n\
         RUN echo second >/second\n\
         COPY --from=first /shared /file /own /\n\
         RUN --mount=from=first,target=/m cmp /m/own /own\n\
         RUN test \"$(cat /shared /file /own /second | tr '\\n' ' ')\" = 'shared content {builder} {round} second '\n"
    )
}

#[test]
fn builds_and_prunes_at_the_same_time_lose_nothing() {
    // The daemon's own collector takes whatever it may as well.
    let daemon = collecting(r#"{"policy": [{"all": true}]}"#);
    let seconds = std::env::var("CAIS_PRUNE_SECONDS").ok();
    let seconds = seconds.map_or(6, |text| text.parse().unwrap());
    // The base image has a user, so that only what builds made is pruned.
    daemon
        .cais(&["run", "-d", "--name", "base", "busybox", "sleep", "100000"])
        .unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let building = AtomicBool::new(true);
    let built = std::thread::scope(|scope| {
        for what in [
            &["system", "prune", "-af"][..],
            &["image", "prune", "-af"],
            &["container", "prune", "-f"],
            &["builder", "prune", "-af"],
        ] {
            let (daemon, building) = (&daemon, &building);
            scope.spawn(move || {
                while building.load(Ordering::Relaxed) {
                    // One prune at a time is let in; others are told so.
                    let _ = daemon.client("docker", what).output().unwrap();
                }
            });
        }
        let builders: Vec<_> = (0..BUILDERS)
            .map(|builder| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let mut rounds = 0;
                    let mut failed = Vec::new();
                    while rounds == 0 || (Instant::now() < end && failed.is_empty()) {
                        let text = file(builder, rounds);
                        let context = Context::new(&[("Dockerfile", &text), ("file", "content\n")]);
                        let tag = format!("b{builder}:r{rounds}");
                        let output = build(daemon, &context, &["-t", &tag]);
                        if !output.status.success() {
                            failed.push(format!(
                                "{tag}: {}{}",
                                String::from_utf8_lossy(&output.stdout),
                                String::from_utf8_lossy(&output.stderr)
                            ));
                        }
                        rounds += 1;
                    }
                    (rounds, failed)
                })
            })
            .collect();
        let results: Vec<_> = builders
            .into_iter()
            .map(|builder| builder.join().unwrap())
            .collect();
        building.store(false, Ordering::Relaxed);
        results
    });
    for (rounds, failed) in &built {
        assert!(failed.is_empty(), "round {rounds}: {failed:#?}");
    }
    daemon.cais(&["rm", "-f", "base"]).unwrap();
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
    assert_nothing_left(&daemon);
}

/// Where the daemon dies, and how many of the three steps below the next build finds done.
const POINTS: [(&str, usize); 16] = [
    ("unpack-entry:1", 0),
    ("build-attached:1", 0),
    ("build-container:1", 0),
    ("build-ran:1", 0),
    ("upper-entry:1", 0),
    ("commit-unsynced:1", 0),
    ("commit-placed:1", 0),
    ("commit-before-record:1", 0),
    ("commit-recorded:1", 0),
    ("build-remembered:1", 1),
    ("build-tree:1", 1),
    ("commit-recorded:2", 1),
    ("build-remembered:2", 2),
    ("build-container:2", 2),
    ("build-ran:2", 2),
    ("build-remembered:3", 3),
];

/// The mounts, contexts and containers of builds that are there.
fn traces(daemon: &TestDaemon) -> Vec<String> {
    let mut found = Vec::new();
    for place in ["contexts", "mounts"] {
        let entries = fs::read_dir(daemon.data_root().join("build").join(place));
        let entries = entries.into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    let containers = daemon.docker(&["ps", "-aq"]).unwrap();
    found.extend(containers.lines().map(str::to_owned));
    found
}

fn cached(output: &str) -> usize {
    output.matches("Using cache").count()
}

#[test]
fn killed_at_any_phase_of_a_build_nothing_is_left_and_the_next_goes_on() {
    let mut daemon = daemon();
    for (number, (point, done)) in POINTS.into_iter().enumerate() {
        let text = format!(
            "FROM busybox\n\
             RUN --mount=type=bind,target=/context,rw echo {number} >/a\n\
             COPY file /b\n\
             RUN --mount=from=busybox,target=/m test -e /m/bin && cat /a /b >/c\n"
        );
        let context = Context::new(&[("Dockerfile", &text), ("file", "content\n")]);
        daemon
            .restart_with(&[&format!("--failpoint={point}")])
            .unwrap();
        let output = build(&daemon, &context, &["-t", "made"]);
        assert!(!output.status.success(), "the build outlived {point}");
        wait_until("the daemon is dead", || daemon.has_ended());
        daemon.restart_with(&[]).unwrap();
        assert_eq!(traces(&daemon), Vec::<String>::new(), "{point}");
        assert_nothing_left(&daemon);
        let output = built(&daemon, &context, &["-t", "made"]);
        assert_eq!(cached(&output), done, "{point}: {output}");
        let seen = daemon.docker(&["run", "--rm", "made", "cat", "/c"]);
        assert_eq!(seen.unwrap(), format!("{number}\ncontent\n"), "{point}");
        let whole = daemon.cais(&["system", "check"]).unwrap();
        assert!(whole.contains("all whole"), "{point}: {whole}");
        wait_until("nothing is left", || traces(&daemon).is_empty());
    }
    assert_nothing_left(&daemon);
}

/// Starts a build with docker that is not waited for.
fn start(daemon: &TestDaemon, context: &Context) -> Child {
    let path = context.path().to_string_lossy();
    let mut command = daemon.client("docker", &["build", &path]);
    command
        .env("DOCKER_BUILDKIT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn commands(daemon: &TestDaemon) -> String {
    daemon
        .docker(&["ps", "--no-trunc", "--format", "{{.Command}}"])
        .unwrap()
}

#[test]
fn a_client_that_goes_ends_a_step_that_waits_for_a_cache() {
    let daemon = daemon();
    let text = |word: &str| {
        let mount = "--mount=type=cache,target=/c,sharing=locked";
        format!("FROM busybox\nRUN {mount} echo {word} && sleep 1000\n")
    };
    let first = Context::new(&[("Dockerfile", &text("first"))]);
    let second = Context::new(&[("Dockerfile", &text("second"))]);
    let mut holder = start(&daemon, &first);
    wait_until("the first has the cache", || {
        commands(&daemon).contains("first")
    });
    let contexts = || {
        let path = daemon.data_root().join("build/contexts");
        fs::read_dir(path).unwrap().count()
    };
    let output = daemon.scratch().join("waiter");
    let path = second.path().to_string_lossy().into_owned();
    let mut waiter = daemon
        .client("docker", &["build", &path])
        .env("DOCKER_BUILDKIT", "0")
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the second comes to its step", || {
        fs::read_to_string(&output).unwrap().contains("Step 2/2")
    });
    waiter.kill().unwrap();
    waiter.wait().unwrap();
    wait_until("the second is gone", || contexts() == 1);
    assert!(commands(&daemon).contains("first"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the first is gone", || traces(&daemon).is_empty());
    assert_nothing_left(&daemon);
}

#[test]
fn a_client_that_goes_within_its_upload_ends_the_build() {
    let daemon = daemon();
    let text = "FROM busybox\nRUN echo cut && sleep 1000\n";
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "Dockerfile", text.as_bytes())
        .unwrap();
    let archive = archive.into_inner().unwrap();
    // The archive is whole and the build begins, but the last chunk of the request never comes.
    let mut client = UnixStream::connect(daemon.socket()).unwrap();
    let head = "POST /build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    write!(client, "{:x}\r\n", archive.len()).unwrap();
    client.write_all(&archive).unwrap();
    client.write_all(b"\r\n").unwrap();
    wait_until("the step runs", || commands(&daemon).contains("cut"));
    drop(client);
    wait_until("nothing is left", || traces(&daemon).is_empty());
    assert_nothing_left(&daemon);
}

#[test]
fn a_stage_that_fails_ends_the_others_at_once() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox AS long\n\
         RUN sleep 1000\n\
         FROM busybox AS bad\n\
         RUN exit 3\n\
         FROM busybox\n\
         COPY --from=long / /a\n\
         COPY --from=bad / /b\n",
    )]);
    let (code, error) = fails(&daemon, &context, &["--force-rm"]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("returned a non-zero code: 3"), "{error}");
    wait_until("nothing is left", || traces(&daemon).is_empty());
    assert_nothing_left(&daemon);
}

#[test]
fn the_container_of_a_step_that_failed_outlives_a_restart_and_is_pruned() {
    let mut daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN exit 3\n")]);
    let (code, error) = fails(&daemon, &context, &[]);
    assert_eq!(code, 3, "{error}");
    let kept = daemon.docker(&["ps", "-aq"]).unwrap();
    assert_eq!(kept.lines().count(), 1);
    daemon.restart().unwrap();
    assert_eq!(daemon.docker(&["ps", "-aq"]).unwrap(), kept);
    daemon.docker(&["container", "prune", "-f"]).unwrap();
    assert_eq!(traces(&daemon), Vec::<String>::new());
}

#[test]
fn a_step_without_memory_fails_and_the_next_build_goes_on() {
    let daemon = daemon();
    let text = |last: &str| format!("FROM busybox\nRUN echo x >/x\nRUN {last}\n");
    let context = Context::new(&[("Dockerfile", &text("tail /dev/zero"))]);
    let flags = ["--memory=16m", "--memory-swap=16m", "--force-rm"];
    let (code, error) = fails(&daemon, &context, &flags);
    assert_eq!(code, 137, "{error}");
    assert!(error.contains("returned a non-zero code: 137"), "{error}");
    wait_until("nothing is left", || traces(&daemon).is_empty());
    context.write("Dockerfile", &text("cat /x"));
    assert_eq!(cached(&built(&daemon, &context, &flags)), 1);
    assert_nothing_left(&daemon);
}

#[test]
fn a_build_that_fills_the_disk_fails_and_the_next_goes_on() {
    let home = tempfile::TempDir::new().unwrap();
    let disk = Disk::new(home.path(), 16 << 20);
    let small = TestDaemon::start_with(CAIS, &[&disk.data_root()]).unwrap();
    let archive = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    small
        .cais(&["load", "-q", "-i", &archive.to_string_lossy()])
        .unwrap();
    let text = |last: &str| format!("FROM busybox\nRUN echo x >/x\n{last}\n");
    let context = Context::new(&[("file", &"x".repeat(3 << 20))]);
    // The first takes the file itself, the others are copies.
    let copies = "COPY file /1\nCOPY file /2\nCOPY file /3\nCOPY file /4\nCOPY file /5";
    for (last, why) in [
        ("RUN cat /dev/zero >/big", "returned a non-zero code: 1"),
        (copies, "no space left on device"),
    ] {
        context.write("Dockerfile", &text(last));
        let (_, error) = fails(&small, &context, &["--force-rm"]);
        assert!(error.to_lowercase().contains(why), "{last}: {error}");
        wait_until("nothing is left", || traces(&small).is_empty());
        assert_nothing_left(&small);
        small.docker(&["image", "prune", "-f"]).unwrap();
        context.write("Dockerfile", &text("RUN cat /x"));
        built(&small, &context, &["-t", "kept"]);
        assert_eq!(cached(&built(&small, &context, &["-t", "kept"])), 2);
    }
    let whole = small.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
}

#[test]
fn builds_share_a_running_step_and_one_takes_over_when_the_other_is_canceled() {
    let daemon = daemon();
    let script = "echo x >>/c/runs; until test -e /c/go; do sleep 0.1; done; cp /c/runs /runs";
    let text = format!("FROM busybox\nRUN --mount=type=cache,target=/c {script}\n");
    let context = Context::new(&[("Dockerfile", &text)]);
    let mut first = start(&daemon, &context);
    wait_until("the first runs", || commands(&daemon).contains("runs"));
    let path = context.path().to_string_lossy().into_owned();
    let outputs = daemon.scratch();
    let waiters: Vec<_> = (0..2)
        .map(|number| {
            let output = outputs.join(format!("waiter{number}"));
            let child = daemon
                .client("docker", &["build", "-t", "shared", &path])
                .env("DOCKER_BUILDKIT", "0")
                .stdout(fs::File::create(&output).unwrap())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_until("the waiter waits", || {
                let text = fs::read_to_string(&output).unwrap();
                text.contains("Waiting for another build's step")
            });
            child
        })
        .collect();
    assert_eq!(commands(&daemon).lines().count(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
    let caches = daemon.data_root().join("build/caches");
    let cache = fs::read_dir(caches).unwrap().next().unwrap().unwrap();
    wait_until("another takes over", || {
        fs::read_to_string(cache.path().join("runs")).unwrap() == "x\nx\n"
    });
    fs::write(cache.path().join("go"), "").unwrap();
    for mut waiter in waiters {
        assert!(waiter.wait().unwrap().success());
    }
    let runs = daemon.docker(&["run", "--rm", "shared", "cat", "/runs"]);
    assert_eq!(runs.unwrap(), "x\nx\n", "one run for both");
}
