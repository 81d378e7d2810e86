//! What builds leave for the next ones: shown, measured, and pruned by rule.

use std::process::Command;

use cais_testkit::{BaseImage, TestDaemon, wait_until};
use serde_json::Value;

use crate::build::{Context, build, built, cached};
use crate::{CAIS, daemon};

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

/// A daemon with these rules, and busybox.
pub fn collecting(gc: &str) -> TestDaemon {
    let flag = format!(r#"--builder={{"gc": {gc}}}"#);
    let daemon = TestDaemon::start_with(CAIS, &[&flag]).unwrap();
    let archive = cais_testkit::base_image(BaseImage::Busybox).unwrap();
    daemon
        .cais(&["load", "-q", "-i", &archive.to_string_lossy()])
        .unwrap();
    daemon
}

#[test]
fn a_ceiling_of_the_configuration_removes_the_least_recently_used() {
    let daemon = collecting(r#"{"defaultReservedSpace": "4MB"}"#);
    let context = |name: &str, bytes: i64| {
        let text = format!("FROM busybox\nRUN head -c {bytes} /dev/urandom >/{name}\n");
        Context::new(&[("Dockerfile", &text)])
    };
    // What an image has does not count and stays.
    built(&daemon, &context("image", 5 * MIB), &["-t", "kept"]);
    built(&daemon, &context("old", 3 * MIB), &[]);
    built(&daemon, &context("new", 2 * MIB), &[]);
    let private = || {
        let mut sizes = sizes(&daemon, "regular");
        assert_eq!(sizes.pop(), Some(5 * MIB));
        sizes
    };
    wait_until("the cache is below its ceiling", || {
        private().iter().sum::<i64>() <= 4 * MIB
    });
    built(&daemon, &context("third", MIB), &[]);
    wait_until("it stays below", || {
        let sizes = private();
        sizes.contains(&MIB) && sizes.iter().sum::<i64>() <= 4 * MIB
    });
    let whole = daemon.cais(&["run", "--rm", "kept", "wc", "-c", "/image"]);
    assert_eq!(whole.unwrap(), "5242880 /image\n");
}

#[test]
fn rules_of_the_configuration_see_types_and_may_be_off() {
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c head -c 1048576 /dev/zero >/c/one\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let policy = r#"{"policy": [{"all": true, "filter": ["type==exec.cachemount"]}]}"#;
    let daemon = collecting(policy);
    built(&daemon, &context, &[]);
    wait_until("the cache mount has gone", || {
        sizes(&daemon, "exec.cachemount").is_empty()
    });
    assert_eq!(sizes(&daemon, "regular"), [0]);
    let bad = TestDaemon::start_with(CAIS, &[r#"--builder={"gc": {"ceiling": "1GB"}}"#]);
    assert!(bad.is_err(), "a directive that there is not is refused");
}

#[test]
fn du_shows_records_as_buildx_does() {
    let daemon = daemon();
    let text = "FROM busybox\nRUN head -c 3145728 /dev/urandom >/three\nRUN --mount=type=cache,target=/c echo >/c/a\n";
    let context = Context::new(&[("Dockerfile", text)]);
    built(&daemon, &context, &["-t", "kept"]);
    let shown = daemon.cais(&["builder", "du"]).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED");
    assert!(lines[1].contains("\ttrue \t3.146MB*  \t"), "{shown}");
    assert!(
        shown.contains("*\ttrue \t1B        \t"),
        "a cache mount changes: {shown}"
    );
    let sums = "Shared:\t\t3.146MB\nPrivate:\t1B\nReclaimable:\t3.146MB\nTotal:\t\t3.146MB\n";
    assert!(shown.ends_with(sums), "{shown}");
    let verbose = daemon
        .cais(&["buildx", "du", "--verbose", "--filter", "type=regular"])
        .unwrap();
    assert!(verbose.starts_with("ID:\t\t"), "{verbose}");
    for line in [
        "Mutable:\tfalse",
        "Shared:\t\ttrue",
        "Size:\t\t3.146MB",
        "Type:\t\tregular",
    ] {
        assert!(verbose.lines().any(|one| one == line), "{line}: {verbose}");
    }
    assert!(
        verbose.contains("\nParent:\t\t") && !verbose.contains("Total:"),
        "{verbose}"
    );
    let format = |flags: &[&str]| {
        let args = [&["builder", "du", "--format", "{{.Type}} {{.Size}}"], flags].concat();
        daemon.cais(&args).unwrap()
    };
    let mount = "exec.cachemount 1B\n";
    assert_eq!(format(&["--filter", "type=exec.cachemount"]), mount);
    assert_eq!(format(&["--filter", "mutable=true"]), mount);
    assert_eq!(format(&["--filter", "shared=false"]), mount);
    assert_eq!(format(&["--filter", "description=id \"/c\""]), mount);
    assert_eq!(format(&["--filter", "until=1h"]), "");
    assert_eq!(format(&[]).lines().count(), 3);
    let bad = crate::refused(&daemon, &["builder", "du", "--filter", "color=red"]);
    assert!(bad.contains("invalid filter 'color'"), "{bad}");
}

#[test]
fn stages_of_a_filter_are_made_anew() {
    let daemon = daemon();
    let text = "FROM busybox AS one\nRUN head -c 9 /dev/urandom >/one\nFROM busybox\nRUN head -c 9 /dev/urandom >/two\n\
        FROM scratch AS three\nCOPY --from=one /one /\nCOPY --from=1 /two /\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let path = context.path().to_str().unwrap();
    let hits = |flags: &[&str]| {
        let args = [
            &["build", "--progress=plain", "-q", "-o", "-"],
            flags,
            &[path],
        ]
        .concat();
        let tar = daemon.cais_output(&args).unwrap();
        assert!(tar.status.success(), "{tar:?}");
        let file = |name: &str| {
            let mut child = Command::new("tar")
                .args(["-xO", name])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &tar.stdout).unwrap();
            child.wait_with_output().unwrap().stdout
        };
        [file("one"), file("two")]
    };
    let first = hits(&[]);
    assert_eq!(hits(&[]), first);
    let second = hits(&["--no-cache-filter", "ONE"]);
    assert!(second[0] != first[0] && second[1] == first[1]);
    let third = hits(&["--no-cache-filter", "stage-1,nosuch"]);
    assert!(third[0] == second[0] && third[1] != second[1]);
    let both = crate::refused(
        &daemon,
        &["build", "--no-cache", "--no-cache-filter", "one", path],
    );
    assert!(
        both.contains("--no-cache and --no-cache-filter cannot currently be used together"),
        "{both}"
    );
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

/// How much of a build on another daemon is found in an image.
fn hits(daemon: &TestDaemon, context: &Context, from: &str) -> usize {
    cached(&built(
        daemon,
        context,
        &["--cache-from", from, "-t", "again"],
    ))
}

#[test]
fn an_image_stands_for_the_steps_of_its_history() {
    let text = "FROM busybox\nENV A=b\nRUN head -c 9 /dev/urandom >/random\nCOPY file /file\nARG X=1\n\
        RUN head -c 9 /dev/urandom >/other\nWORKDIR /w\nWORKDIR /w\nHEALTHCHECK NONE\n";
    let context = Context::new(&[("Dockerfile", text), ("file", "content\n")]);
    let (one, other) = (daemon(), daemon());
    built(&one, &context, &["-t", "made"]);
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("made.tar");
    let archive = archive.to_str().unwrap();
    one.cais(&["save", "-o", archive, "made"]).unwrap();
    other.cais(&["load", "-q", "-i", archive]).unwrap();
    assert_eq!(
        cached(&built(&other, &context, &[])),
        0,
        "only where it is named"
    );
    other.cais(&["builder", "prune", "-af"]).unwrap();
    assert_eq!(hits(&other, &context, "nosuch"), 0);
    other.cais(&["builder", "prune", "-af"]).unwrap();
    assert_eq!(hits(&other, &context, "made"), 8);
    let id = |daemon: &TestDaemon, name| crate::inspect(daemon, name, "{{.Id}}");
    assert_eq!(id(&other, "again"), id(&one, "made"));
    // It was believed in that build only.
    assert!(records(&other).is_empty());
    // What the history cannot know, or knows to be other, is made.
    context.write("file", "changed\n");
    assert_eq!(hits(&other, &context, "made"), 2);
    let file = other.cais(&["run", "--rm", "again", "cat", "/file"]);
    assert_eq!(file.unwrap(), "changed\n");
    context.write("file", "content\n");
    other.cais(&["builder", "prune", "-af"]).unwrap();
    let mounted = text.replace("RUN head", "RUN --mount=type=tmpfs,target=/t head");
    context.write("Dockerfile", &mounted);
    assert_eq!(hits(&other, &context, "made"), 1);
    context.write("Dockerfile", &text.replace("A=b", "A=c"));
    assert_eq!(hits(&other, &context, "made"), 0);
}

#[test]
fn a_squashed_image_has_no_layers_of_its_steps() {
    let daemon = daemon();
    let text = "FROM busybox\nENV A=b\nRUN echo text >/file\nRUN test -e /file\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let path = context.path().to_str().unwrap();
    daemon
        .cais(&["build", "-q", "--squash", "-t", "squashed", path])
        .unwrap();
    daemon.cais(&["builder", "prune", "-af"]).unwrap();
    assert_eq!(hits(&daemon, &context, "squashed"), 1, "only the ENV");
    let file = daemon.cais(&["run", "--rm", "again", "cat", "/file"]);
    assert_eq!(file.unwrap(), "text\n");
}

#[test]
fn a_history_that_lies_about_files_gives_no_layer_to_a_step_without_any() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nENV A=b\n")]);
    daemon
        .cais(&["create", "--name", "bad", "busybox"])
        .unwrap();
    let script = "echo evil >/evil";
    daemon
        .cais(&["run", "--name", "evil", "busybox", "sh", "-c", script])
        .unwrap();
    daemon.cais(&["commit", "evil", "evil"]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let done = Command::new("sh")
            .args(["-ec", script])
            .current_dir(scratch.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let archive = scratch.path().join("evil.tar");
    daemon
        .cais(&["save", "-o", archive.to_str().unwrap(), "evil"])
        .unwrap();
    run("mkdir d && tar -xf evil.tar -C d");
    // The line of its history says that it is the ENV of the file above.
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(scratch.path().join("d/manifest.json")).unwrap())
            .unwrap();
    let config = scratch
        .path()
        .join("d")
        .join(manifest[0]["Config"].as_str().unwrap());
    let mut document: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let last = document["history"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap();
    last["created_by"] = "/bin/sh -c #(nop)  ENV A=b".into();
    let mut manifest = manifest;
    manifest[0]["Config"] = "config.json".into();
    manifest[0]["RepoTags"] = serde_json::json!(["lies:1"]);
    std::fs::write(scratch.path().join("d/config.json"), document.to_string()).unwrap();
    std::fs::write(scratch.path().join("d/manifest.json"), manifest.to_string()).unwrap();
    run("rm -f d/index.json d/oci-layout && tar -cf lies.tar -C d .");
    let lies = scratch.path().join("lies.tar");
    daemon
        .cais(&["load", "-q", "-i", lies.to_str().unwrap()])
        .unwrap();
    assert_eq!(hits(&daemon, &context, "lies:1"), 0);
    daemon
        .cais(&["run", "--rm", "again", "test", "!", "-e", "/evil"])
        .unwrap();
}

#[test]
fn a_registry_or_a_directory_keeps_the_steps_for_other_daemons() {
    let text = "FROM busybox\nRUN head -c 9 /dev/urandom >/random\nCOPY file /file\n";
    let context = Context::new(&[("Dockerfile", text), ("file", "content\n")]);
    let path = context.path().to_str().unwrap();
    let (one, other) = (daemon(), daemon());
    let registry = crate::registry_kit::Registry::start();
    let cache = format!("127.0.0.1:{}/cache:1", registry.port);
    let to = format!("type=registry,ref={cache},mode=min");
    one.cais(&["build", "-t", "made", "--cache-to", &to, path])
        .unwrap();
    let names = one
        .cais(&["images", "--format", "{{.Repository}}"])
        .unwrap();
    assert!(!names.contains("cache"), "{names}");
    let from = format!("type=registry,ref={cache}");
    let shown = other
        .cais_output(&[
            "build",
            "--progress=plain",
            "--cache-to",
            "type=inline",
            "--cache-from",
            &from,
            "-t",
            "made",
            path,
        ])
        .unwrap();
    let shown = String::from_utf8(shown.stderr).unwrap();
    assert_eq!(shown.matches("CACHED").count(), 2, "{shown}");
    let id = |daemon: &TestDaemon| crate::inspect(daemon, "made", "{{.Id}}");
    assert_eq!(id(&other), id(&one));
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("kept");
    let to = format!("type=local,dest={}", directory.display());
    one.cais(&["build", "-q", "--cache-to", &to, path]).unwrap();
    assert!(directory.join("index.json").exists());
    let third = daemon();
    let from = format!("type=local,src={}", directory.display());
    third
        .cais(&["build", "-q", "--cache-from", &from, "-t", "made", path])
        .unwrap();
    assert_eq!(id(&third), id(&one));
    let missing = other
        .cais_output(&["build", "--cache-from", &format!("{cache}0"), path])
        .unwrap();
    let told = String::from_utf8(missing.stderr).unwrap();
    assert!(
        missing.status.success() && told.contains("WARNING: cache of "),
        "{told}"
    );
    let bad = crate::refused(&one, &["build", "--cache-to", "type=gha", path]);
    assert!(bad.contains("cache type gha is not built yet"), "{bad}");
}
