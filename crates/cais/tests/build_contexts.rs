//! Contexts that stay at the daemon from one build to the next.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cais_testkit::{TestDaemon, wait_until};

use crate::build::Context;
use crate::daemon;

/// `cais build`; what it prints.
fn built(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> String {
    let path = context.path().to_string_lossy();
    let args = [&["build", "--progress=plain"], flags, &[&*path]].concat();
    let output = daemon.cais_output(&args).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// The directories of contexts that stay.
fn kept(daemon: &TestDaemon) -> Vec<PathBuf> {
    let all = fs::read_dir(daemon.data_root().join("build/kept"));
    let paths = all.into_iter().flatten().flatten();
    paths.map(|entry| entry.path()).collect()
}

/// Files that have just changed are sent again in any case: waits until none has.
fn settled(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let changed = metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000;
    wait_until("old files", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_millis() > u128::try_from(changed).unwrap() + 200
    });
}

fn inode(path: PathBuf) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn only_what_changed_is_sent_again() {
    let daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY . /c/\n"),
        ("same", "same"),
        ("changed", "one"),
        ("gone", "gone"),
        ("dir/below", "below"),
        ("kind/file", "was a directory"),
    ]);
    symlink("same", context.path().join("link")).unwrap();
    settled(&context.path().join("link"));
    built(&daemon, &context, &["-t", "first"]);
    let files = kept(&daemon).remove(0).join("files");
    let (same, changed) = (inode(files.join("same")), inode(files.join("changed")));

    context.write("changed", "two");
    fs::remove_file(context.path().join("gone")).unwrap();
    fs::remove_dir_all(context.path().join("kind")).unwrap();
    context.write("kind", "is a file");
    context.write("dir/more/new", "new");
    fs::set_permissions(
        context.path().join("dir/below"),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    fs::remove_file(context.path().join("link")).unwrap();
    symlink("changed", context.path().join("link")).unwrap();
    built(&daemon, &context, &["-t", "second"]);
    assert_eq!(inode(files.join("same")), same, "it stays as it is");
    assert_ne!(inode(files.join("changed")), changed, "it is replaced");

    let show = "cd /c && find . ! -name Dockerfile | sort && cat link kind && stat -c %a dir/below";
    let second = daemon.docker(&["run", "--rm", "second", "sh", "-c", show]);
    assert_eq!(
        second.unwrap(),
        ".\n./changed\n./dir\n./dir/below\n./dir/more\n./dir/more/new\n./kind\n./link\n./same\ntwois a file600\n"
    );
    let first = daemon.docker(&[
        "run",
        "--rm",
        "first",
        "sh",
        "-c",
        "cd /c && cat link changed gone kind/file",
    ]);
    assert_eq!(
        first.unwrap(),
        "sameonegonewas a directory",
        "its files were not written to"
    );
    assert_eq!(kept(&daemon).len(), 1);
}

#[test]
fn a_context_that_stays_makes_what_a_new_one_makes() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY . /c/\nCOPY sub/file /again\nCOPY sub /c2\n",
        ),
        ("sub/file", "1"),
        ("other", "other"),
        (".dockerignore", "Dockerfile\n.dockerignore\nignored\n"),
        ("ignored", "x"),
    ]);
    built(&daemon, &context, &[]);
    context.write("sub/file", "2");
    settled(&context.path().join("sub/file"));
    built(&daemon, &context, &[]);
    built(&daemon, &context, &["--no-cache", "-t", "kept"]);
    let fresh = crate::daemon();
    built(&fresh, &context, &["-t", "fresh"]);
    let list = "find /c /c2 /again -mindepth 1 -exec stat -c '%n %Y %a %s' {} + | sort";
    let list = |daemon: &TestDaemon, name| {
        let shown = daemon.docker(&["run", "--rm", name, "sh", "-c", list]);
        shown.unwrap()
    };
    assert_eq!(list(&daemon, "kept"), list(&fresh, "fresh"));
    // One file in two places of an image is two files.
    let show = "stat -c '%i' /c/sub/file /again /c2/file | sort -u | wc -l; cat /c/sub/file /again /c2/file; ls -A /c";
    let shown = daemon
        .docker(&["run", "--rm", "kept", "sh", "-c", show])
        .unwrap();
    assert_eq!(shown, "3\n222other\nsub\n");
}

#[test]
fn a_step_of_the_same_files_is_found_without_reading_them() {
    let daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY file /\n"),
        ("file", "contents"),
    ]);
    built(&daemon, &context, &[]);
    let again = built(&daemon, &context, &[]);
    assert!(again.contains("CACHED"), "{again}");
    // The same contents with another time are the same files.
    context.write("file", "contents");
    let again = built(&daemon, &context, &[]);
    assert!(again.contains("CACHED"), "{again}");
    context.write("file", "Contents");
    let other = built(&daemon, &context, &["-t", "other"]);
    assert!(!other.contains("CACHED"), "{other}");
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "other", "cat", "/file"])
            .unwrap(),
        "Contents"
    );
}

#[test]
fn a_daemon_that_was_killed_believes_nothing_of_its_contexts() {
    let mut daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY . /c/\nRUN sleep 1000\n"),
        ("file", "contents"),
    ]);
    let path = context.path().to_string_lossy().into_owned();
    let mut build = daemon
        .client(crate::CAIS, &["build", "-q", &path])
        .spawn()
        .unwrap();
    wait_until("the step", || {
        let running = daemon.docker(&["ps", "-q"]).unwrap();
        !running.is_empty()
    });
    // While one build has the context, another one from the same directory has its own.
    let dockerfile = context.path().join("Other");
    fs::write(&dockerfile, "FROM busybox\nCOPY file /\n").unwrap();
    built(
        &daemon,
        &context,
        &["-f", &dockerfile.to_string_lossy(), "-t", "beside"],
    );
    assert_eq!(kept(&daemon).len(), 1);
    daemon.kill().unwrap();
    assert!(!build.wait().unwrap().success());
    let files = kept(&daemon).remove(0).join("files");
    fs::write(files.join("file"), "tampered").unwrap();
    daemon.restart().unwrap();
    built(
        &daemon,
        &context,
        &[
            "-f",
            &dockerfile.to_string_lossy(),
            "--no-cache",
            "-t",
            "after",
        ],
    );
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "after", "cat", "/file"])
            .unwrap(),
        "contents"
    );
}

#[test]
fn errors_of_a_build_from_a_list_are_those_of_any_other() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUNN x\n")]);
    let path = context.path().to_string_lossy().into_owned();
    let output = daemon.cais_output(&["build", &path]).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("dockerfile parse error on line 2: unknown instruction: RUNN"),
        "{text}"
    );
    context.write("Dockerfile", "FROM busybox\nRUN exit 7\n");
    let output = daemon.cais_output(&["build", &path]).unwrap();
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn other_contexts_are_known_by_their_names() {
    let daemon = daemon();
    let other = Context::new(&[
        ("file", "of the other"),
        ("ignored", "x"),
        (".dockerignore", "ignored\n"),
        ("etc/of-a-root", "root"),
    ]);
    fs::create_dir(other.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", other.path().join("bin/sh")).unwrap();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM scratch AS base\n\
             COPY missing /\n\
             FROM base AS one\n\
             COPY --from=other . /copied/\n\
             RUN --mount=from=other,target=/m cat /m/file >/out\n\
             RUN --mount=from=other,source=etc,target=/m,rw touch /m/new && ls /m >>/out\n\
             FROM OTHER\n\
             COPY --from=one /out /copied/ /result/\n\
             COPY own /result/\n\
             RUN : ${TEST=x} && echo built >>/result/out\n",
        ),
        ("own", "own"),
    ]);
    let flag = format!("Other={}", other.path().display());
    let flags = [
        "--build-context",
        &flag,
        "--build-context",
        "base=docker-image://busybox",
    ];
    built(&daemon, &context, &[&flags[..], &["-t", "made"]].concat());
    assert_eq!(kept(&daemon).len(), 2);
    let files = daemon.scratch().join("files");
    let output = format!("type=local,dest={}", files.display());
    let again = built(&daemon, &context, &[&flags[..], &["-o", &output]].concat());
    assert!(again.contains("CACHED"), "{again}");
    let read = |path: &str| fs::read_to_string(files.join(path)).unwrap();
    assert_eq!(read("result/out"), "of the othernew\nof-a-root\nbuilt\n");
    assert_eq!(read("result/file"), "of the other");
    assert_eq!(read("result/own"), "own");
    assert_eq!(read("etc/of-a-root"), "root");
    assert!(!files.join("ignored").exists() && !files.join("etc/new").exists());

    other.write("file", "changed");
    built(&daemon, &context, &[&flags[..], &["-o", &output]].concat());
    assert_eq!(read("result/file"), "changed");

    let path = context.path().to_string_lossy().into_owned();
    for (value, expected) in [
        (
            "nothing",
            "invalid context value: nothing, expected key=value",
        ),
        ("a=/nowhere", "failed to stat /nowhere"),
        ("a=target:stage", "not built yet"),
    ] {
        let output = daemon
            .cais_output(&["build", "--build-context", value, &path])
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn times_set_in_a_layer_change_no_file_of_the_context() {
    let daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY . /c/\n"),
        ("file", "contents"),
    ]);
    let show = ["sh", "-c", "stat -c %Y /c/file"];
    let time = |name| {
        daemon
            .docker(&[&["run", "--rm", name][..], &show].concat())
            .unwrap()
    };
    built(&daemon, &context, &["-t", "before"]);
    let before = time("before");
    let image = "type=image,name=rewritten,rewrite-timestamp=true";
    let flags = [
        "--no-cache",
        "-o",
        image,
        "--build-arg",
        "SOURCE_DATE_EPOCH=1000",
    ];
    built(&daemon, &context, &flags);
    assert_eq!(time("rewritten"), "1000\n");
    built(&daemon, &context, &["--no-cache", "-t", "after"]);
    assert_eq!([time("before"), time("after")], [before.clone(), before]);
}

#[test]
fn a_file_that_is_shorter_than_it_was_ends_the_build_with_its_name() {
    let daemon = daemon();
    let dockerfile = daemon.scratch().join("Dockerfile");
    fs::write(&dockerfile, "FROM busybox\nCOPY . /all/\n").unwrap();
    // Files of sysfs claim a page and have less.
    let statistics = "/sys/class/net/lo/statistics";
    let args = ["build", "-f", dockerfile.to_str().unwrap(), statistics];
    let output = daemon.cais_output(&args).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let want = "error from sender: collisions: became shorter while it was sent";
    assert!(told.contains(want), "{told}");
    let names = daemon.cais(&["images", "-q", "-f", "dangling=true"]);
    assert_eq!(names.unwrap(), "");
}

#[test]
fn an_image_of_an_oci_layout_is_a_context() {
    let daemon = daemon();
    let scratch = tempfile::tempdir().unwrap();
    let layout = scratch.path().join("lay:out");
    let base = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    for tag in ["1", "2"] {
        let to = format!("oci:{}:{tag}", scratch.path().join("plain").display());
        let output = std::process::Command::new("skopeo")
            .args([
                "copy",
                "-q",
                &format!("docker-archive:{}", base.display()),
                &to,
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    fs::rename(scratch.path().join("plain"), &layout).unwrap();
    let text = "FROM base\nRUN echo run >/made\nCOPY --from=base /bin/busybox /copy/busybox\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let named = |rest: &str| {
        format!(
            "--build-context=base=oci-layout://{}{rest}",
            layout.display()
        )
    };
    let names = daemon
        .cais(&["images", "--format={{.Repository}}:{{.Tag}}"])
        .unwrap();
    built(&daemon, &context, &["-t", "made", &named(":2")]);
    let run = daemon.cais(&["run", "--rm", "made", "/copy/busybox", "cat", "/made"]);
    assert_eq!(run.unwrap(), "run\n");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    built(&daemon, &context, &[&named(&format!("@{digest}"))]);
    let after = daemon
        .cais(&["images", "--format={{.Repository}}:{{.Tag}}"])
        .unwrap();
    assert_eq!(
        after.replace("made:latest\n", ""),
        names,
        "no name is taken"
    );
    let path = context.path().to_string_lossy().into_owned();
    let none = crate::refused(&daemon, &["build", &named(":3"), &path]);
    assert!(none.contains("no image with tag 3"), "{none}");
    let none = crate::refused(
        &daemon,
        &["build", "--build-context=base=oci-layout:///nowhere", &path],
    );
    assert!(none.contains("oci-layout /nowhere: No such file"), "{none}");
}
