//! What becomes of a build besides the image in the store: files, archives, registries, and what was made as JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cais_testkit::TestDaemon;
use serde_json::Value;

use crate::build::Context;
use crate::daemon;
use crate::registry_kit::Registry;

/// A context whose image has files of every kind.
fn context() -> Context {
    Context::new(&[
        (
            "Dockerfile",
            "FROM busybox AS made\nRUN mkdir -m 555 /out && chmod 755 /out && echo text >/out/file && chmod 640 /out/file \
             && ln -s file /out/link && ln /out/file /out/hard && mkdir /out/gone && mkdir /out/sealed \
             && echo in >/out/sealed/in && chmod 555 /out/sealed\nRUN rmdir /out/gone\n\
             FROM scratch\nCOPY --from=made /out /out\n",
        ),
        ("unused", ""),
    ])
}

fn run(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let path = context.path().to_string_lossy();
    let args = [&["build"], flags, &[&*path]].concat();
    let output = daemon.cais_output(&args).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), output.stdout, error)
}

fn build(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> Vec<u8> {
    let (code, output, error) = run(daemon, context, flags);
    assert_eq!(code, Some(0), "{flags:?}: {error}");
    output
}

#[test]
fn files_come_into_a_directory_or_an_archive() {
    let daemon = daemon();
    let context = context();
    let scratch = tempfile::tempdir().unwrap();
    let into = scratch.path().join("in/to");
    build(&daemon, &context, &["-o", &into.to_string_lossy()]);
    let names = |path: &str| {
        let entries = fs::read_dir(into.join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["out"], "nothing but what is in the image");
    assert_eq!(names("out"), ["file", "hard", "link", "sealed"]);
    let mode = |path: &str| fs::metadata(into.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read_to_string(into.join("out/link")).unwrap(), "text\n");
    assert_eq!((mode("out/file"), mode("out/sealed")), (0o640, 0o555));
    assert!(into.join("out/link").is_symlink());
    let archive = scratch.path().join("files.tar");
    let output = format!("type=tar,dest={}", archive.display());
    build(&daemon, &context, &["-q", "-o", &output]);
    let sent = build(&daemon, &context, &["-o", "-"]);
    assert_eq!(fs::read(&archive).unwrap(), sent, "only the archive");
    let listed = Command::new("tar")
        .arg("tf")
        .arg(&archive)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let expected = [
        "out/",
        "out/file",
        "out/hard",
        "out/link",
        "out/sealed/",
        "out/sealed/in",
    ];
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn images_come_as_archives_that_others_read() {
    let daemon = daemon();
    let context = context();
    let scratch = tempfile::tempdir().unwrap();
    let id = scratch.path().join("id");
    for kind in ["docker", "oci"] {
        let archive = scratch.path().join(kind);
        let output = format!("type={kind},dest={}", archive.display());
        let id_flag = format!("--iidfile={}", id.display());
        build(
            &daemon,
            &context,
            &["-t", "made:1", &id_flag, "-o", &output],
        );
        let inspect = Command::new("skopeo")
            .args(["inspect", "--config", "--raw"])
            .arg(match kind {
                "oci" => format!("oci-archive:{}", archive.display()),
                _ => format!("docker-archive:{}", archive.display()),
            })
            .output()
            .unwrap();
        assert!(inspect.status.success(), "{kind}: {inspect:?}");
        fs::write(scratch.path().join("config"), &inspect.stdout).unwrap();
        let sum = Command::new("sha256sum")
            .arg(scratch.path().join("config"))
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let id = fs::read_to_string(&id).unwrap();
        assert!(
            sum.starts_with(id.trim_start_matches("sha256:")),
            "{kind}: {sum} {id}"
        );
    }
}

#[test]
fn an_image_is_pushed_and_told_as_json() {
    let daemon = daemon();
    let context = context();
    let registry = Registry::start();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("metadata");
    let metadata = format!("--metadata-file={}", file.display());
    let name = format!("127.0.0.1:{}/made:1", registry.port);
    let other = format!("127.0.0.1:{}/other:2", registry.port);
    let output = format!("type=registry,name={other}");
    let said = build(
        &daemon,
        &context,
        &["-q", "-t", &name, "-o", &output, &metadata],
    );
    let told: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let id = String::from_utf8(said).unwrap().trim().to_owned();
    assert_eq!(told["containerimage.config.digest"], id.as_str());
    assert_eq!(told["image.name"], format!("{name},{other}"));
    for name in [&name, &other] {
        let pushed = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
            .arg(format!("docker://{name}"))
            .output()
            .unwrap();
        let digest = String::from_utf8(pushed.stdout).unwrap();
        assert_eq!(told["containerimage.digest"], digest.trim());
    }
    let (code, _, error) = run(&daemon, &context, &["--push"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("tag is needed when pushing to registry"),
        "{error}"
    );
    let (code, _, error) = run(&daemon, &context, &["-o", "type=ship"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("unsupported output type: ship"), "{error}");
}
