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

#[test]
fn the_same_build_twice_is_the_same_image() {
    let text = "FROM busybox\nENV A=b\nRUN mkdir /d && echo one >/d/one && ln -s one /d/link && rm /bin/vi\n\
        COPY file /there/file\nWORKDIR /there/work\nRUN --network=none test -e /d/one\n";
    let epoch = 1_234_567_890;
    let make = |daemon: &TestDaemon, flags: &[&str]| {
        let context = Context::new(&[("Dockerfile", text), ("file", "content\n")]);
        let path = context.path().to_string_lossy().into_owned();
        let args = [&["build", "-q", "--no-cache"], flags, &[&path]].concat();
        let output = daemon
            .client(crate::CAIS, &args)
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8(output.stdout).unwrap(), error)
    };
    let rewritten = &["-t", "made", "-o", "type=image,rewrite-timestamp=true"][..];
    let (one, other) = (daemon(), daemon());
    let (first, error) = make(&one, rewritten);
    assert!(first.starts_with("sha256:"), "{error}");
    assert_eq!(make(&one, rewritten).0, first);
    assert_eq!(make(&other, rewritten).0, first);
    let created = one.cais(&["inspect", "-f", "{{.Created}}", "made"]);
    assert_eq!(created.unwrap().trim(), "2009-02-13T23:31:30Z");
    let base = one
        .cais(&["history", "-q", "--no-trunc", "busybox"])
        .unwrap();
    let history = one.cais(&[
        "history",
        "--human=false",
        "--format",
        "{{.CreatedAt}}",
        "made",
    ]);
    let history = history.unwrap();
    let new = history.lines().count() - base.lines().count();
    assert_eq!(new, 5, "{history}");
    let times: std::collections::BTreeSet<&str> = history.lines().take(new).collect();
    assert_eq!(times.len(), 1, "{history}");
    let script = "stat -c %Y /d /d/one /d/link /there /there/file /there/work";
    let seen = one
        .cais(&["run", "--rm", "--network=none", "made", "sh", "-c", script])
        .unwrap();
    assert_eq!(seen, format!("{epoch}\n").repeat(6));
    // Without the attribute only what the image says of itself is of that time.
    let (plain, _) = make(&one, &["-t", "plain"]);
    assert_ne!(plain, first);
    let created = one.cais(&["inspect", "-f", "{{.Created}}", "plain"]);
    assert_eq!(created.unwrap().trim(), "2009-02-13T23:31:30Z");
    let context = Context::new(&[("Dockerfile", "FROM busybox\n")]);
    let path = context.path().to_string_lossy();
    let bad = crate::refused(
        &one,
        &["build", "--build-arg", "SOURCE_DATE_EPOCH=soon", &path],
    );
    assert!(bad.contains("invalid SOURCE_DATE_EPOCH: soon"), "{bad}");
}

#[test]
fn squashed_steps_are_one_layer_above_the_base() {
    let daemon = daemon();
    let text = "FROM busybox\nENV A=b\n\
        RUN mkdir -m 750 /d /e && echo one >/d/one && echo two >/d/two && ln /d/two /d/hard && echo x >/e/x\n\
        RUN rm /d/one /bin/vi && rm -r /e && mkdir /e && echo y >/e/y && chown 7:8 /d && rm -r /var/spool && mkdir /var/spool\n\
        RUN rm -r /e && ln -s d /e && rm -r /home && echo home >/home\n\
        RUN rm /home && mkdir /home && echo in >/home/in && chmod 755 /d\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let layers = |name| crate::inspect(&daemon, name, "{{json .RootFS.Layers}}");
    build(&daemon, &context, &["-t", "plain"]);
    build(&daemon, &context, &["-t", "one", "--squash"]);
    let count = |name| layers(name).matches("sha256:").count();
    assert_eq!((count("busybox"), count("plain"), count("one")), (1, 5, 2));
    assert!(layers("one").starts_with(layers("busybox").trim_end_matches(']')));
    let list = |name: &str| -> Vec<String> {
        // The kernel counts the names of directories by layers.
        let script = "where='-xdev ! -path / ! -path /proc* ! -path /sys* ! -path /dev* ! -path /etc/ho* ! -path /etc/resolv.conf'; \
            find / $where -type d -exec stat -c '%n %f %u %g' {} + ; find / $where ! -type d -exec stat -c '%n %f %u %g %h %N' {} + ; \
            cat /d/two /home/in; env | grep A=";
        let text = daemon.cais(&["run", "--rm", "--network=none", name, "sh", "-fc", script]);
        let mut lines: Vec<String> = text.unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let plain = list("plain");
    assert!(
        plain.contains(&"/d 41ed 7 8".to_owned())
            && plain.contains(&"/d/hard 81a4 0 0 2 /d/hard".to_owned())
    );
    assert_eq!(list("one"), plain);
    // Nothing of what came and went is in the layer, and what hides nothing of the base is not there.
    let archive = daemon.cais_output(&["save", "one"]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("one.tar"), archive.stdout).unwrap();
    let script = "tar -xf one.tar && for id in $(python3 -c 'import json; print(json.load(open(\"manifest.json\"))[0][\"Layers\"][1])'); do tar -tf $id; done";
    let listed = Command::new("sh")
        .args(["-ec", script])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: std::collections::BTreeSet<&str> = listed.lines().collect();
    for name in [
        "bin/.wh.vi",
        "d/two",
        "e",
        "home/in",
        "home/.wh..wh..opq",
        "var/spool/.wh..wh..opq",
    ] {
        assert!(names.contains(name), "{name}: {listed}");
    }
    for name in ["d/one", "d/.wh.one", "e/x", ".wh.e"] {
        assert!(!names.contains(name), "{name}: {listed}");
    }
    let history = daemon
        .cais(&[
            "history",
            "--no-trunc",
            "--format",
            "{{.Size}} {{.Comment}}",
            "one",
        ])
        .unwrap();
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[0].contains("merge sha256:") && lines[0].contains(" to sha256:"),
        "{history}"
    );
    assert!(
        lines[1..6].iter().all(|line| line.starts_with("0B")),
        "{history}"
    );
    // From nothing, and of nothing.
    let context = Context::new(&[
        ("Dockerfile", "FROM scratch\nCOPY a /a\nCOPY b /b\n"),
        ("a", "a"),
        ("b", "b"),
    ]);
    build(&daemon, &context, &["-t", "two", "--squash"]);
    assert_eq!(count("two"), 1);
    context.write("Dockerfile", "FROM busybox\nENV X=y\n");
    build(&daemon, &context, &["-t", "none", "--squash"]);
    assert_eq!(layers("none"), layers("busybox"));
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
}
