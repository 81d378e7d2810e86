//! Archives between us and podman, skopeo and dockerd, both ways: the image ids stay.

use std::path::Path;
use std::process::Command;

use cais_testkit::TestDaemon;
use serde_json::Value;

use crate::{daemon, refused};

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.trim().to_owned()
}

pub fn podman(work: &Path, args: &[&str]) -> String {
    let mut command = Command::new("podman");
    command
        .arg(format!("--root={}", work.join("podman").display()))
        .arg(format!("--runroot={}", work.join("podman-run").display()))
        .arg(format!("--tmpdir={}", work.join("podman-tmp").display()))
        .arg("--storage-driver=vfs")
        .args(args);
    run(&mut command)
}

fn id(daemon: &TestDaemon, name: &str) -> String {
    let id = daemon
        .docker(&["image", "inspect", "-f", "{{.Id}}", name])
        .unwrap();
    id.trim().to_owned()
}

/// An image of two layers with what archives get wrong: links, long names, an empty layer in its history.
fn prepare(daemon: &TestDaemon) -> String {
    let make = "mkdir -p /a/b; echo text > /a/b/file; ln /a/b/file /a/twin; ln -s /nowhere /a/link; \
        touch /a/$(printf '%0200d' 0); chmod 4755 /a/b/file; rm /etc/group";
    daemon
        .docker(&["run", "--name", "maker", "busybox", "sh", "-c", make])
        .unwrap();
    daemon
        .docker(&[
            "commit",
            "-c",
            "LABEL a=b",
            "maker",
            "example.org/deep/made:1",
        ])
        .unwrap();
    daemon.docker(&["rm", "maker"]).unwrap();
    id(daemon, "example.org/deep/made:1")
}

/// Loads an archive after everything that it could be taken from has gone.
fn load_anew(daemon: &TestDaemon, archive: &Path) -> String {
    let ids = daemon.docker(&["images", "-q", "--no-trunc"]).unwrap();
    for id in ids.lines() {
        let _ = daemon.docker(&["rmi", "-f", id]);
    }
    daemon
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .unwrap()
}

#[test]
fn podman_and_skopeo_archives_keep_image_ids_both_ways() {
    let daemon = daemon();
    let work = daemon.scratch().to_owned();
    let made = prepare(&daemon);
    let path = |name: &str| work.join(name);
    let saved = path("saved.tar");
    daemon
        .docker(&[
            "save",
            "-o",
            &saved.to_string_lossy(),
            "example.org/deep/made:1",
            "busybox",
        ])
        .unwrap();
    podman(&work, &["load", "-q", "-i", &saved.to_string_lossy()]);
    let theirs = podman(
        &work,
        &[
            "images",
            "--no-trunc",
            "--format",
            "{{.Id}} {{.Repository}}",
        ],
    );
    assert!(
        theirs.contains(&format!("{} example.org/deep/made", &made[7..])),
        "{theirs}"
    );
    let copy = |from: &str, to: &str| {
        let names = |what: &str| match what.split_once('>') {
            Some((kind, name)) => format!("{kind}:{}", path(name).display()),
            None => what.to_owned(),
        };
        let mut command = Command::new("skopeo");
        command
            .arg("--tmpdir")
            .arg(&work)
            .args(["copy", "-q", "--insecure-policy"]);
        run(command.arg(names(from)).arg(names(to)));
    };
    for format in ["docker-archive", "oci-archive"] {
        let archive = path(&format!("podman-{format}.tar"));
        podman(
            &work,
            &[
                "save",
                "-q",
                "--format",
                format,
                "-o",
                &archive.to_string_lossy(),
                "example.org/deep/made:1",
            ],
        );
    }
    copy(
        "docker-archive>podman-docker-archive.tar",
        "oci-archive>skopeo-oci.tar",
    );
    copy(
        "docker-archive>podman-docker-archive.tar",
        "docker-archive>skopeo-docker.tar:example.org/deep/made:1",
    );
    for archive in [
        "podman-oci-archive.tar",
        "skopeo-oci.tar",
        "skopeo-docker.tar",
        "podman-docker-archive.tar",
    ] {
        let told = load_anew(&daemon, &path(archive));
        assert!(told.contains("Loaded image"), "{archive}: {told}");
        // The conversion from Docker's to the OCI form writes another configuration; what skopeo calls it is its id.
        let kind = if archive.contains("oci") {
            "oci-archive"
        } else {
            "docker-archive"
        };
        let mut inspect = Command::new("skopeo");
        inspect
            .arg("--tmpdir")
            .arg(&work)
            .args(["inspect", "--raw"]);
        let raw = run(inspect.arg(format!("{kind}:{}", path(archive).display())));
        let manifest: Value = serde_json::from_str(&raw).unwrap();
        let want = manifest["config"]["digest"].as_str().unwrap().to_owned();
        assert_eq!(id(&daemon, &want), want, "{archive}: {told}");
        assert!(kind == "oci-archive" || want == made, "{archive}: {want}");
        let seen = daemon.docker(&[
            "run",
            "--rm",
            &want,
            "sh",
            "-c",
            "test ! -e /etc/group && stat -c '%a %h' /a/twin; ls /a | wc -l",
        ]);
        assert_eq!(seen.unwrap(), "4755 2\n4\n", "{archive}");
    }
    assert_eq!(id(&daemon, "example.org/deep/made:1"), made);
}

#[test]
fn an_image_is_saved_as_the_same_bytes_each_time() {
    let daemon = daemon();
    let made = prepare(&daemon);
    let again = |name: &str| {
        let path = daemon.scratch().join(name);
        daemon
            .docker(&["save", "-o", &path.to_string_lossy(), &made])
            .unwrap();
        std::fs::read(path).unwrap()
    };
    assert!(
        again("once.tar") == again("twice.tar"),
        "two saves of one image differ"
    );
}

#[test]
fn dockerd_takes_and_gives_archives() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-dockerd");
    let daemon = daemon();
    let made = prepare(&daemon);
    let saved = daemon.scratch().join("saved.tar");
    let back = daemon.scratch().join("back.tar");
    let (saved, back) = (saved.to_string_lossy(), back.to_string_lossy());
    daemon
        .docker(&["save", "-o", &saved, "example.org/deep/made:1"])
        .unwrap();
    let there = "docker load -q -i $1 && docker image inspect -f '{{.Id}}' example.org/deep/made:1 && \
        docker run --rm --network none example.org/deep/made:1 stat -c '%a %h' /a/twin && docker save -o $2 example.org/deep/made:1";
    let mut command = Command::new(script);
    command.args(["sh", "-c", there, "sh", &saved, &back]);
    let output = command.output().unwrap();
    if output.status.code() == Some(77) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), &output.stderr);
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.ends_with(&format!("{made}\n4755 2\n")), "{text}");
    load_anew(&daemon, Path::new(&*back));
    assert_eq!(id(&daemon, "example.org/deep/made:1"), made);
}

#[test]
fn load_save_and_import_say_what_docker_says() {
    let daemon = daemon();
    let work = daemon.scratch();
    let path = work.join("a.tar");
    let path = path.to_string_lossy();
    let busybox = id(&daemon, "busybox");
    daemon.docker(&["tag", "busybox", "second:2"]).unwrap();
    daemon
        .docker(&["save", "-o", &path, "busybox", "second:2", &busybox])
        .unwrap();
    assert_eq!(
        daemon.docker(&["load", "-i", &path]).unwrap(),
        "Loaded image: busybox:latest\nLoaded image: second:2\n"
    );
    daemon.docker(&["save", "-o", &path, &busybox]).unwrap();
    let told = daemon.docker(&["load", "-q", "-i", &path]).unwrap();
    assert_eq!(told, format!("Loaded image ID: {busybox}\n"));
    let docker = |args: &[&str]| {
        let output = daemon.client("docker", args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = docker(&["save", "-o", &path, "--platform", "linux/arm64", "busybox"]);
    assert!(error.contains("image with reference busybox was found but does not provide the specified platform (linux/arm64)"), "{error}");
    daemon
        .docker(&["save", "-o", &path, "--platform", "linux/amd64", "busybox"])
        .unwrap();
    let error = docker(&["load", "-i", &path, "--platform", "linux/arm64"]);
    assert!(
        error.contains("does not provide the specified platform (linux/arm64)"),
        "{error}"
    );
    daemon
        .docker(&["load", "-i", &path, "--platform", "linux/amd64"])
        .unwrap();
    let error = docker(&["save", "-o", &path, "nothing-here"]);
    assert!(
        error.contains("No such image: nothing-here") || error.contains("reference does not exist"),
        "{error}"
    );
    let error = docker(&["image", "inspect", "--platform", "linux/arm64", "busybox"]);
    assert!(
        error.contains("does not provide the specified platform"),
        "{error}"
    );
    // An import, from the export of a container, under a name and for another machine.
    daemon
        .docker(&["create", "--name", "box", "busybox"])
        .unwrap();
    daemon.docker(&["export", "-o", &path, "box"]).unwrap();
    let import = [
        "import",
        "-m",
        "from a box",
        "-c",
        "CMD [\"echo\", \"hi\"]",
        "--platform",
        "linux/amd64",
        &*path,
        "boxed:1",
    ];
    let boxed = daemon.docker(&import).unwrap();
    assert!(boxed.starts_with("sha256:"), "{boxed}");
    assert_eq!(daemon.docker(&["run", "--rm", "boxed:1"]).unwrap(), "hi\n");
    let image: Value =
        serde_json::from_str(&daemon.docker(&["image", "inspect", "boxed:1"]).unwrap()).unwrap();
    assert_eq!(image[0]["Comment"], "from a box");
    assert_eq!(image[0]["Id"], boxed.trim());
    // Small enough to be sent whole before the refusal comes.
    let small = work.join("small.tar");
    std::fs::write(&small, [0; 1024]).unwrap();
    let small = small.to_string_lossy();
    let error = refused(&daemon, &["import", &small, "Bad:1"]);
    assert!(error.contains("must be lowercase"), "{error}");
    let error = docker(&["import", "-c", "RUN x", &small]);
    assert!(error.contains("is not a valid change command"), "{error}");
}
