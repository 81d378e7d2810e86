//! Builds for several platforms: one name for all of them, here, in archives and in registries.

use std::fs;
use std::path::Path;
use std::process::Command;

use cais_testkit::TestDaemon;
use serde_json::Value;

use crate::build::Context;
use crate::images_archives::{podman, run};
use crate::registry_kit::Registry;
use crate::{daemon, inspect, refused};

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// What is made on this machine for another one.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\nRUN echo $TARGETARCH >/arch\n\
    FROM scratch\nCOPY --from=build /arch /arch\n";

/// Builds, and answers what standard error has.
fn build(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> String {
    let path = context.path().to_string_lossy();
    let output = daemon
        .cais_output(&[&["build"], flags, &[&*path]].concat())
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

fn skopeo(args: &[&str]) -> String {
    run(Command::new("skopeo").args(args))
}

/// The index behind a name of a registry or in an archive, as skopeo reads it.
fn index(place: &str) -> Value {
    let text = skopeo(&["inspect", "--raw", "--tls-verify=false", place]);
    serde_json::from_str(&text).unwrap()
}

fn platforms(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    manifests
        .map(|one| &one["platform"])
        .map(|one| format!("{}/{}", text(&one["os"]), text(&one["architecture"])))
        .collect()
}

/// The one file of the one layer of a copy that skopeo made in a directory.
fn only_file(directory: &Path) -> String {
    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = directory.join(digest.trim_start_matches("sha256:"));
    run(Command::new("tar").arg("xOf").arg(layer).arg("arch"))
}

fn image_count(daemon: &TestDaemon) -> usize {
    let ids = daemon.cais(&["images", "-aq", "--no-trunc"]).unwrap();
    let ids: std::collections::BTreeSet<&str> = ids.lines().collect();
    ids.len()
}

#[test]
fn one_name_has_an_image_for_each_platform_here_and_in_a_registry() {
    let (daemon, registry) = (daemon(), Registry::start());
    let context = Context::new(&[("Dockerfile", CROSS)]);
    let name = registry.name("made:1");
    let told = build(
        &daemon,
        &context,
        &[BOTH, "--progress=plain", "-t", &name, "--push"],
    );
    assert!(told.contains("[linux/amd64->linux/arm64 build "), "{told}");
    assert!(told.contains("[linux/arm64 stage-1 "), "{told}");
    let pushed = index(&format!("docker://{name}"));
    assert_eq!(
        pushed["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(platforms(&pushed), ["linux/amd64", "linux/arm64"]);
    let scratch = tempfile::tempdir().unwrap();
    for architecture in ["amd64", "arm64"] {
        let copy = scratch.path().join(architecture);
        let flag = format!("--override-arch={architecture}");
        let (from, to) = (
            format!("docker://{name}"),
            format!("dir:{}", copy.display()),
        );
        skopeo(&[&flag, "copy", "--src-tls-verify=false", &from, &to]);
        assert_eq!(only_file(&copy), architecture);
        let flag = format!("--arch={architecture}");
        podman(
            scratch.path(),
            &["pull", "-q", "--tls-verify=false", &flag, &name],
        );
        let theirs = podman(
            scratch.path(),
            &["inspect", "-f", "{{.Architecture}} {{.Id}}", &name],
        );
        let platform = format!("--platform=linux/{architecture}");
        let ours = daemon.docker(&[
            "image",
            "inspect",
            "-f",
            "{{.Architecture}} {{.Id}}",
            &platform,
            &name,
        ]);
        assert_eq!(theirs, ours.unwrap().trim().replace("sha256:", ""));
    }
    let none = refused(
        &daemon,
        &["image", "inspect", "--platform=linux/s390x", &name],
    );
    assert!(
        none.contains("does not provide the specified platform (linux/s390x)"),
        "{none}"
    );
    let tree = daemon.docker(&["images", "--tree"]).unwrap();
    assert!(
        tree.contains("linux/amd64") && tree.contains("linux/arm64"),
        "{tree}"
    );
    let history = daemon
        .cais(&[
            "history",
            "-q",
            "--no-trunc",
            "--platform=linux/arm64",
            &name,
        ])
        .unwrap();
    let other = daemon
        .cais(&["history", "-q", "--no-trunc", &name])
        .unwrap();
    assert_ne!(history.lines().next(), other.lines().next());
}

#[test]
fn names_of_several_images_are_copied_pushed_and_removed_as_a_whole() {
    let (daemon, registry) = (daemon(), Registry::start());
    let before = image_count(&daemon);
    let context = Context::new(&[("Dockerfile", CROSS)]);
    let name = registry.name("made:1");
    build(&daemon, &context, &[BOTH, "-t", &name]);
    // A second name is the same, and each keeps all of it.
    let second = registry.name("second:2");
    daemon.docker(&["tag", &name, &second]).unwrap();
    daemon.docker(&["rmi", &name]).unwrap();
    daemon.docker(&["push", "-q", &second]).unwrap();
    assert_eq!(
        platforms(&index(&format!("docker://{second}"))),
        ["linux/amd64", "linux/arm64"]
    );
    daemon
        .docker(&["push", "-q", "--platform=linux/arm64", &second])
        .unwrap();
    let single = skopeo(&[
        "inspect",
        "--config",
        "--tls-verify=false",
        "--override-arch=arm64",
        &format!("docker://{second}"),
    ]);
    assert!(single.contains("\"arm64\""), "{single}");
    assert_eq!(
        index(&format!("docker://{second}"))["manifests"],
        Value::Null
    );
    daemon.cais(&["image", "prune", "-f"]).unwrap();
    daemon
        .docker(&["image", "inspect", "--platform=linux/arm64", &second])
        .unwrap();
    daemon.docker(&["rmi", &second]).unwrap();
    daemon.cais(&["builder", "prune", "-af"]).unwrap();
    assert_eq!(
        image_count(&daemon),
        before,
        "{}",
        daemon.cais(&["images", "-a"]).unwrap()
    );
}

#[test]
fn files_of_several_platforms_are_one_archive() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", CROSS)]);
    let scratch = tempfile::tempdir().unwrap();
    let listed = daemon.cais_output(&[
        "build",
        BOTH,
        "-q",
        "-o",
        "-",
        &context.path().to_string_lossy(),
    ]);
    let all = scratch.path().join("files.tar");
    fs::write(&all, listed.unwrap().stdout).unwrap();
    let names = run(Command::new("tar").arg("tf").arg(&all));
    assert_eq!(
        names.lines().collect::<std::collections::BTreeSet<_>>(),
        [
            "linux_amd64/",
            "linux_amd64/arch",
            "linux_arm64/",
            "linux_arm64/arch"
        ]
        .into()
    );
    assert_eq!(
        run(Command::new("tar")
            .arg("xOf")
            .arg(&all)
            .arg("linux_arm64/arch")),
        "arm64"
    );
}

#[test]
fn an_archive_has_all_platforms_and_a_restart_forgets_none() {
    let mut daemon = daemon();
    let context = Context::new(&[("Dockerfile", CROSS)]);
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("made.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let files = scratch.path().join("files");
    let local = format!("type=local,dest={}", files.display());
    build(
        &daemon,
        &context,
        &[BOTH, "-t", "made:1", "-o", &output, "-o", &local],
    );
    for architecture in ["amd64", "arm64"] {
        let file = files.join(format!("linux_{architecture}/arch"));
        assert_eq!(fs::read_to_string(file).unwrap().trim(), architecture);
    }
    let place = format!("oci-archive:{}", archive.display());
    assert_eq!(platforms(&index(&place)), ["linux/amd64", "linux/arm64"]);
    for architecture in ["amd64", "arm64"] {
        let copy = scratch.path().join(architecture);
        let flag = format!("--override-arch={architecture}");
        skopeo(&[&flag, "copy", &place, &format!("dir:{}", copy.display())]);
        assert_eq!(only_file(&copy), architecture);
    }
    daemon.kill().unwrap();
    daemon.restart().unwrap();
    let again = scratch.path().join("again.tar");
    daemon
        .docker(&["save", "-o", &again.to_string_lossy(), "made:1"])
        .unwrap();
    assert_eq!(fs::read(&archive).unwrap(), fs::read(&again).unwrap());
    let one = scratch.path().join("one.tar");
    daemon
        .docker(&[
            "save",
            "--platform=linux/arm64",
            "-o",
            &one.to_string_lossy(),
            "made:1",
        ])
        .unwrap();
    let place = format!("oci-archive:{}", one.display());
    assert!(
        skopeo(&["inspect", "--config", "--override-arch=arm64", &place]).contains("\"arm64\"")
    );
    // Another daemon has all of it as well, or the platform that is asked for.
    let other = crate::daemon();
    other
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .unwrap();
    assert_eq!(
        inspect(&other, "made:1", "{{.Id}}"),
        inspect(&daemon, "made:1", "{{.Id}}")
    );
    let third = scratch.path().join("third.tar");
    other
        .docker(&["save", "-o", &third.to_string_lossy(), "made:1"])
        .unwrap();
    assert_eq!(fs::read(&archive).unwrap(), fs::read(&third).unwrap());
    let fourth = crate::daemon();
    fourth
        .docker(&[
            "load",
            "--platform=linux/arm64",
            "-i",
            &archive.to_string_lossy(),
        ])
        .unwrap();
    assert_eq!(inspect(&fourth, "made:1", "{{.Architecture}}"), "arm64");
    refused(
        &fourth,
        &["image", "inspect", "--platform=linux/amd64", "made:1"],
    );
    // Built for one platform, the name stands for that only.
    build(&daemon, &context, &["-t", "made:1"]);
    refused(
        &daemon,
        &["image", "inspect", "--platform=linux/arm64", "made:1"],
    );
    daemon.cais(&["image", "prune", "-f"]).unwrap();
    assert_eq!(
        daemon
            .cais(&["images", "-q", "-f", "dangling=true"])
            .unwrap(),
        ""
    );
}

#[test]
fn one_platform_of_several_can_be_removed() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", CROSS)]);
    build(&daemon, &context, &[BOTH, "-t", "made:1"]);
    let arm = daemon
        .cais(&[
            "image",
            "inspect",
            "-f",
            "{{.Id}}",
            "--platform=linux/arm64",
            "made:1",
        ])
        .unwrap();
    let kept = refused(&daemon, &["rmi", "-f", arm.trim()]);
    assert!(kept.contains("one of several platforms"), "{kept}");
    daemon
        .cais(&["rmi", "--platform=linux/arm64", "made:1"])
        .unwrap();
    refused(&daemon, &["image", "inspect", arm.trim()]);
    assert_eq!(inspect(&daemon, "made:1", "{{.Architecture}}"), "amd64");
}

#[test]
fn bases_of_other_platforms_are_found_here_or_fetched_and_names_stay() {
    let (one, mut registry) = (daemon(), Registry::start());
    let base = registry.name("base:1");
    build(
        &one,
        &Context::new(&[("Dockerfile", CROSS)]),
        &[BOTH, "-t", &base, "--push"],
    );
    let text = format!("FROM {base}\nCOPY file /file\n");
    let context = Context::new(&[("Dockerfile", &text), ("file", "x")]);
    let other = daemon();
    other.cais(&["pull", "-q", &base]).unwrap();
    let own = inspect(&other, &base, "{{.Id}}");
    for daemon in [&one, &other] {
        build(daemon, &context, &["--platform=linux/arm64", "-t", "arm"]);
        assert_eq!(inspect(daemon, "arm", "{{.Architecture}}"), "arm64");
        let layers = inspect(daemon, "arm", "{{len .RootFS.Layers}}");
        assert_eq!(layers, "2");
    }
    assert_eq!(
        inspect(&other, &base, "{{.Id}}"),
        own,
        "the name still leads to this machine's"
    );
    registry.kill();
    build(&other, &context, &["--no-cache", BOTH, "-t", "both"]);
    let arm = other.cais(&[
        "image",
        "inspect",
        "-f",
        "{{.Architecture}}",
        "--platform=linux/arm64",
        "both",
    ]);
    assert_eq!(arm.unwrap().trim(), "arm64");
    let gone = refused(
        &other,
        &[
            "build",
            "--platform=linux/s390x",
            &context.path().to_string_lossy(),
        ],
    );
    assert!(gone.contains("connect"), "{gone}");
    let bad = refused(
        &other,
        &[
            "build",
            "--platform=linux/a+b",
            &context.path().to_string_lossy(),
        ],
    );
    assert!(bad.contains("invalid platform component"), "{bad}");
    let blank = Context::new(&[("Dockerfile", "FROM --platform=$NOTHING busybox\n")]);
    let blank = refused(&other, &["build", &blank.path().to_string_lossy()]);
    assert!(blank.contains("failed to parse platform : "), "{blank}");
}

#[test]
fn a_layout_of_several_platforms_is_a_context_for_each() {
    let daemon = daemon();
    let scratch = tempfile::tempdir().unwrap();
    let (archive, layout) = (scratch.path().join("a.tar"), scratch.path().join("layout"));
    let output = format!("type=oci,dest={}", archive.display());
    build(
        &daemon,
        &Context::new(&[("Dockerfile", CROSS)]),
        &[BOTH, "-t", "packed", "-o", &output],
    );
    fs::create_dir(&layout).unwrap();
    run(Command::new("tar")
        .arg("xf")
        .arg(&archive)
        .arg("-C")
        .arg(&layout));
    let context = Context::new(&[(
        "Dockerfile",
        "FROM base\nCOPY --from=base /arch /copy\nFROM --platform=linux/arm64 base AS fixed\n\
         FROM scratch\nCOPY --from=0 /arch /copy /\nCOPY --from=fixed /arch /fixed\n",
    )]);
    let files = scratch.path().join("files");
    let local = format!("type=local,dest={}", files.display());
    let named = format!("--build-context=base=oci-layout://{}", layout.display());
    build(&daemon, &context, &[BOTH, &named, "-o", &local]);
    for architecture in ["amd64", "arm64"] {
        let read = |name: &str| {
            let file = files.join(format!("linux_{architecture}/{name}"));
            fs::read_to_string(file).unwrap().trim().to_owned()
        };
        assert_eq!(read("arch"), architecture);
        assert_eq!(read("copy"), architecture);
        assert_eq!(read("fixed"), "arm64");
    }
}

#[test]
fn a_base_of_another_platform_goes_with_the_cache() {
    let (one, registry) = (daemon(), Registry::start());
    let base = registry.name("base:1");
    build(
        &one,
        &Context::new(&[("Dockerfile", CROSS)]),
        &[BOTH, "-t", &base, "--push"],
    );
    let text = format!("FROM {base}\nCOPY file /file\n");
    let context = Context::new(&[("Dockerfile", &text), ("file", "x")]);
    let other = daemon();
    let flags = ["--platform=linux/arm64", "-t", "arm"];
    for remove_first in [false, true] {
        build(&other, &context, &flags);
        assert_eq!(known_bases(&other), 1);
        if remove_first {
            other.cais(&["rmi", "arm"]).unwrap();
            other.cais(&["image", "prune", "-f"]).unwrap();
        }
        other.cais(&["builder", "prune", "-af"]).unwrap();
        assert_eq!(known_bases(&other), 0);
    }
    assert_eq!(image_count(&other), 1, "busybox");
}

/// Rows of the table that finds such bases.
fn known_bases(daemon: &TestDaemon) -> usize {
    let db = cais_state::Db::open(&daemon.data_root().join("cais.db")).unwrap();
    let rows: Vec<(String, Value)> = db.all("build-base").unwrap();
    rows.len()
}

#[test]
fn what_a_name_of_several_images_has_is_not_the_caches_alone() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", CROSS)]);
    build(&daemon, &context, &[BOTH, "-t", "made:1"]);
    daemon.cais(&["builder", "prune", "-f"]).unwrap();
    let told = build(
        &daemon,
        &context,
        &[BOTH, "-t", "made:1", "--progress=plain"],
    );
    let copies = told
        .lines()
        .filter(|line| line.contains("] COPY ") || line.ends_with("CACHED"));
    let copies: Vec<&str> = copies.collect();
    let found = copies
        .windows(2)
        .filter(|pair| pair[0].contains("] COPY ") && pair[1].ends_with("CACHED"));
    assert_eq!(found.count(), 2, "both images are still steps: {told}");
}

#[test]
fn stages_on_a_stage_of_this_machine_run_here() {
    let daemon = daemon();
    let text = "FROM --platform=$BUILDPLATFORM busybox AS first\nFROM first AS second\nRUN echo $(uname -m) >/made\n\
        COPY --from=busybox /bin/true /true\nFROM scratch\nCOPY --from=second /made /made\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let told = build(
        &daemon,
        &context,
        &[
            "--platform=linux/arm64,linux/s390x",
            "--progress=plain",
            "-t",
            "made",
        ],
    );
    assert!(told.contains("[linux/amd64->linux/s390x second "), "{told}");
    assert_eq!(inspect(&daemon, "made", "{{.Architecture}}"), "arm64");
}

#[test]
fn a_command_of_another_platform_needs_an_emulator() {
    let daemon = daemon();
    // A program of a machine there is not: the kernel knows no way to run it.
    let mut program = fs::read("/bin/true").unwrap();
    program[18] = 0xfd;
    let context = Context::new(&[(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN echo\n",
    )]);
    fs::write(context.path().join("sh"), program).unwrap();
    let path = context.path().to_string_lossy().into_owned();
    let error = refused(
        &daemon,
        &["build", "--progress=plain", "--platform=linux/arm64", &path],
    );
    assert!(error.contains("exec format error"), "{error}");
    assert!(
        error.contains("The image is for linux/arm64 and this host is linux/amd64"),
        "{error}"
    );
}
