//! Cache mounts beyond one daemon: written to archives, filled from them, and begun with a directory of another context.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cais_testkit::{TestDaemon, wait_until};

use crate::build::Context;
use crate::{daemon, refused};

/// A build with one command on busybox; what standard error has.
fn run_step(daemon: &TestDaemon, flags: &[&str], mount: &str, command: &str) -> String {
    let text = format!("FROM busybox\nRUN --mount=type=cache,{mount} {command}\n");
    let context = Context::new(&[("Dockerfile", &text)]);
    let path = context.path().to_string_lossy();
    let flags = [
        &["build", "--progress=plain", "--no-cache"],
        flags,
        &[&*path],
    ]
    .concat();
    let output = daemon.cais_output(&flags).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

fn listed(archive: &Path) -> String {
    let output = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(archive)
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// A step that has a cache until it is killed.
struct Holding(Child, Context);

impl Holding {
    fn begin(daemon: &TestDaemon, mount: &str) -> Self {
        let text =
            format!("FROM busybox\nRUN --mount=type=cache,{mount} echo holding && sleep 100000\n");
        let context = Context::new(&[("Dockerfile", &text)]);
        let path = context.path().to_string_lossy().into_owned();
        let mut command = daemon.client(crate::CAIS, &["build", "--progress=plain", &path]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("a step uses the cache", || {
            let used = [
                "builder",
                "du",
                "--filter=type=exec.cachemount",
                "--filter=inuse=true",
                "--format={{.ID}}",
            ];
            !daemon.cais(&used).unwrap().trim().is_empty()
        });
        Self(child, context)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = &self.1;
    }
}

#[test]
fn a_cache_is_written_to_an_archive_and_another_daemon_is_filled_from_it() {
    let (one, other) = (daemon(), daemon());
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("deps.tar");
    let file = archive.to_string_lossy().into_owned();
    let make = "sh -c 'mkdir -m 750 /c/d && echo one >/c/d/file && chown 5:6 /c/d/file && ln -s file /c/d/link'";
    run_step(&one, &[], "id=my/deps,target=/c", make);
    let shown = one.cais(&["builder", "du", "--verbose"]).unwrap();
    assert!(
        shown.contains("cached mount /c with id \"my/deps\""),
        "{shown}"
    );
    one.cais(&["builder", "cache", "export", "my/deps", &file])
        .unwrap();
    let list = listed(&archive);
    assert!(list.contains("-rw-r--r-- 5/6"), "{list}");
    other
        .cais(&["builder", "cache", "import", "my/deps", &file])
        .unwrap();
    let seen = run_step(
        &other,
        &[],
        "id=my/deps,target=/c",
        "cat /c/d/link && stat -c %a.%u /c/d /c/d/file",
    );
    for line in [" one", " 750.0", " 644.5"] {
        assert!(
            seen.lines().any(|own| own.ends_with(line)),
            "{line}: {seen}"
        );
    }
    // What it had before is gone, and the archive goes through pipes as well.
    run_step(&other, &[], "id=my/deps,target=/c", "touch /c/more");
    let sent = one
        .cais_output(&["builder", "cache", "export", "my/deps", "-"])
        .unwrap();
    assert_eq!(sent.stdout, fs::read(&archive).unwrap());
    other
        .cais(&["builder", "cache", "import", "my/deps", &file])
        .unwrap();
    let seen = run_step(
        &other,
        &[],
        "id=my/deps,target=/c",
        "sh -c 'ls /c; ls /c/more || echo gone'",
    );
    assert!(seen.contains(" gone"), "{seen}");
    let none = refused(&other, &["builder", "cache", "export", "nothing", &file]);
    assert!(
        none.contains("no cache mount with id \"nothing\""),
        "{none}"
    );
    let bad = refused(&other, &["builder", "cache", "empty", "my/deps", &file]);
    assert!(bad.contains("unknown verb \"empty\""), "{bad}");
    fs::write(&archive, "no archive at all").unwrap();
    refused(&other, &["builder", "cache", "import", "my/deps", &file]);
    let seen = run_step(&other, &[], "id=my/deps,target=/c", "cat /c/d/file");
    assert!(
        seen.contains(" one"),
        "a bad archive changes nothing: {seen}"
    );
    let left = fs::read_dir(other.data_root().join("build/caches")).unwrap();
    assert_eq!(left.count(), 1);
}

#[test]
fn a_cache_that_a_step_uses_is_not_replaced() {
    let daemon = daemon();
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch
        .path()
        .join("deps.tar")
        .to_string_lossy()
        .into_owned();
    run_step(&daemon, &[], "id=deps,target=/c", "touch /c/file");
    daemon
        .cais(&["builder", "cache", "export", "deps", &archive])
        .unwrap();
    let holding = Holding::begin(&daemon, "id=deps,target=/c");
    let used = refused(&daemon, &["builder", "cache", "import", "deps", &archive]);
    assert!(
        used.contains("cache mount \"deps\" is being used by a running step"),
        "{used}"
    );
    drop(holding);
    wait_until("the cache is free again", || {
        let import = daemon.cais_output(&["builder", "cache", "import", "deps", &archive]);
        import.unwrap().status.success()
    });
}

#[test]
fn what_a_daemon_that_was_killed_left_half_made_goes() {
    let mut daemon = daemon();
    run_step(&daemon, &[], "id=deps,target=/c", "touch /c/file");
    daemon.kill().unwrap();
    let caches = daemon.data_root().join("build/caches");
    let whole = fs::read_dir(&caches)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for half in ["import-0", "new"] {
        fs::create_dir_all(whole.with_extension(half).join("below")).unwrap();
    }
    daemon.restart().unwrap();
    wait_until("only the whole cache is left", || {
        let left = fs::read_dir(&caches)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        left.eq([whole.clone()])
    });
    let seen = run_step(
        &daemon,
        &[],
        "id=deps,target=/c",
        "sh -c 'test -e /c/file && echo there'",
    );
    assert!(seen.contains(" there"), "{seen}");
}

#[test]
fn a_cache_begins_with_a_directory_of_another_context() {
    let daemon = daemon();
    let seed = Context::new(&[("sub/file", "seed\n")]);
    let flag = format!("--build-context=seed={}", seed.path().display());
    let mount = "from=seed,source=sub,target=/c";
    let first = run_step(
        &daemon,
        &[&flag],
        mount,
        "sh -c 'cat /c/file && echo more >>/c/file'",
    );
    assert!(first.contains(" seed"), "{first}");
    let second = run_step(&daemon, &[&flag], mount, "sh -c 'wc -l </c/file'");
    assert!(second.lines().any(|line| line.ends_with(" 2")), "{second}");
    seed.write("sub/file", "other\n");
    let third = run_step(&daemon, &[&flag], mount, "sh -c 'cat /c/file'");
    assert!(
        third.contains(" other") && !third.contains(" more"),
        "{third}"
    );
    assert_eq!(
        fs::read_to_string(seed.path().join("sub/file")).unwrap(),
        "other\n"
    );
}
