//! Builds with the real docker and docker-py, through the classic API.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use cais_testkit::{TestDaemon, wait_until};

use crate::daemon;
use crate::registry_kit::Registry;

/// A directory with files to build from.
pub struct Context(tempfile::TempDir);

impl Context {
    /// Files by path; directories are made.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let context = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            context.write(path, text);
        }
        context
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// `docker build` with the classic builder.
pub fn build(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> Output {
    let path = context.path().to_string_lossy();
    let args = [&["build"], flags, &[&*path]].concat();
    let mut command = daemon.client("docker", &args);
    command.env("DOCKER_BUILDKIT", "0").output().unwrap()
}

/// What a build that must go well prints.
pub fn built(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> String {
    let output = build(daemon, context, flags);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a build that must fail prints on standard error, and its exit code.
pub fn fails(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> (i32, String) {
    let output = build(daemon, context, flags);
    assert!(!output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

/// The lines of a build without ids.
fn shape(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let id = |word: &&str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let words: Vec<&str> = words
            .iter()
            .map(|word| if id(word) { "ID" } else { *word })
            .collect();
        words.join(" ")
    };
    text.lines().map(line).collect()
}

#[test]
fn docker_builds_and_runs_an_image() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\n\
             ARG WHO=you\n\
             ENV GREETING=\"hello $WHO\"\n\
             RUN echo \"$GREETING\" >/greeting\n\
             WORKDIR /srv\n\
             COPY --chown=1:2 --chmod=640 file ./\n\
             CMD [\"cat\", \"/greeting\"]\n",
        ),
        ("file", "content"),
    ]);
    let output = built(
        &daemon,
        &context,
        &["-t", "one", "-t", "two:x", "--build-arg", "WHO=me"],
    );
    let mut lines = shape(&output);
    // The client reports the context on its other stream, at any time.
    lines.retain(|line| !line.starts_with("Sending build context"));
    let want = [
        "Step 1/7 : FROM busybox",
        " ---> ID",
        "Step 2/7 : ARG WHO=you",
        " ---> ID",
        "Step 3/7 : ENV GREETING=\"hello $WHO\"",
        " ---> ID",
        "Step 4/7 : RUN echo \"$GREETING\" >/greeting",
        " ---> Running in ID",
        " ---> Removed intermediate container ID",
        " ---> ID",
        "Step 5/7 : WORKDIR /srv",
        " ---> ID",
        "Step 6/7 : COPY --chown=1:2 --chmod=640 file ./",
        " ---> ID",
        "Step 7/7 : CMD [\"cat\", \"/greeting\"]",
        " ---> ID",
        "Successfully built ID",
        "Successfully tagged one:latest",
        "Successfully tagged two:x",
    ];
    assert_eq!(lines, want, "{output}");
    assert_eq!(
        daemon.docker(&["run", "--rm", "one"]).unwrap(),
        "hello me\n"
    );
    let listed = daemon
        .docker(&["run", "--rm", "two:x", "stat", "-c", "%u:%g %a", "file"])
        .unwrap();
    assert_eq!(listed, "1:2 640\n");
    let history = daemon
        .docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "one"])
        .unwrap();
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], "/bin/sh -c #(nop)  CMD [\"cat\" \"/greeting\"]");
    assert!(
        lines[1].starts_with("/bin/sh -c #(nop) COPY --chown=1:2file:"),
        "{history}"
    );
    assert!(lines[1].ends_with(" in ./ "), "{history}");
    assert_eq!(lines[2], "/bin/sh -c #(nop) WORKDIR /srv");
    assert_eq!(
        lines[3],
        "|1 WHO=me /bin/sh -c echo \"$GREETING\" >/greeting"
    );
    assert_eq!(lines[4], "/bin/sh -c #(nop)  ENV GREETING=hello me");
    assert_eq!(lines[5], "/bin/sh -c #(nop)  ARG WHO=you");
    assert_eq!(
        daemon.docker(&["ps", "-aq"]).unwrap(),
        "",
        "no container stays"
    );
}

/// How many steps came out of the cache.
pub fn cached(output: &str) -> usize {
    output.matches("Using cache").count()
}

#[test]
fn steps_are_cached_by_what_they_copy_and_not_by_time() {
    let mut daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nRUN echo x >/x\nCOPY dir /dir\nRUN echo y >/y\n",
        ),
        ("dir/a", "one"),
    ]);
    assert_eq!(cached(&built(&daemon, &context, &[])), 0);
    assert_eq!(cached(&built(&daemon, &context, &[])), 3);
    // The same bytes with another time.
    context.write("dir/a", "one");
    assert_eq!(cached(&built(&daemon, &context, &[])), 3);
    daemon.kill().unwrap();
    daemon.restart().unwrap();
    assert_eq!(cached(&built(&daemon, &context, &[])), 3, "after kill -9");
    let file = context.write("dir/a", "two");
    assert_eq!(cached(&built(&daemon, &context, &[])), 1);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(cached(&built(&daemon, &context, &[])), 1, "another mode");
    assert_eq!(cached(&built(&daemon, &context, &["--no-cache"])), 0);
    assert_eq!(cached(&built(&daemon, &context, &[])), 3);
    let pruned = daemon.docker(&["builder", "prune", "-f"]).unwrap();
    assert!(pruned.contains("Total"), "{pruned}");
    assert_eq!(cached(&built(&daemon, &context, &[])), 0, "forgotten");
}

#[test]
fn a_step_that_fails_says_so_with_its_code() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN echo before; exit 42\n")]);
    let (code, error) = fails(&daemon, &context, &[]);
    assert_eq!(code, 42);
    assert!(
        error.ends_with(
            "The command '/bin/sh -c echo before; exit 42' returned a non-zero code: 42\n"
        ),
        "{error}"
    );
    context.write("Dockerfile", "FROM busybox\nRUNN x\n");
    let (code, error) = fails(&daemon, &context, &[]);
    assert_eq!(code, 1);
    assert!(
        error.ends_with(
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n"
        ),
        "{error}"
    );
    for (text, want) in [
        (
            "FROM busybox\nCOPY nope /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "FROM busybox\nCOPY nop* /\n",
            "COPY failed: no source files were specified",
        ),
        (
            "FROM busybox\nCOPY Dockerfile Dockerfile /x\n",
            "the destination must be a directory and end with a /",
        ),
        (
            "FROM busybox\nCOPY --chown=nobody:nope Dockerfile /x\n",
            "unable to convert uid/gid chown string to host mapping: can't find gid for group nope: no such group: nope",
        ),
        ("FROM busybox\nSTOPSIGNAL nope\n", "invalid signal: nope"),
        (
            "FROM busybox\nCOPY a/../../x /\n",
            "COPY failed: forbidden path outside the build context: a/../../x ()",
        ),
        ("FROM scratch\n", "No image was generated"),
        ("FROM 127.0.0.1:1/nope\n", "127.0.0.1:1"),
    ] {
        context.write("Dockerfile", text);
        let (_, error) = fails(&daemon, &context, &[]);
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn arguments_that_nothing_declares_are_told_of() {
    let daemon = daemon();
    let text = "ARG BASE\nFROM busybox AS unused\nARG GONE\nFROM $BASE\nARG USED\nRUN echo $USED\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let given = [
        "BASE=busybox",
        "GONE=1",
        "USED=1",
        "OTHER=1",
        "HTTP_PROXY=x",
        "SOURCE_DATE_EPOCH=1",
    ];
    let flags: Vec<String> = given.map(|one| format!("--build-arg={one}")).into();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let told = built(&daemon, &context, &flags);
    let warning = "[Warning] One or more build-args [GONE OTHER] were not consumed";
    assert!(told.contains(warning), "{told}");
    let told = built(&daemon, &context, &flags[..1]);
    assert!(!told.contains("[Warning]"), "{told}");
}

#[test]
fn only_stages_that_the_target_needs_are_built() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox AS unused\nRUN exit 1\n\
         FROM busybox AS one\nRUN echo 1 >/one\n\
         FROM busybox AS two\nRUN echo 2 >/two\n\
         FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY --from=busybox /bin/busybox /bin/cat\n\
         CMD [\"cat\", \"/one\", \"/two\"]\n",
    )]);
    built(&daemon, &context, &["-t", "all"]);
    assert_eq!(daemon.docker(&["run", "--rm", "all"]).unwrap(), "1\n2\n");
    let output = built(&daemon, &context, &["--target", "two", "-t", "second"]);
    assert!(!output.contains("/one"), "{output}");
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "second", "cat", "/two"])
            .unwrap(),
        "2\n"
    );
    let (_, error) = fails(&daemon, &context, &["--target", "tow"]);
    assert!(
        error.contains("target stage \"tow\" could not be found (did you mean two?)"),
        "{error}"
    );
}

#[test]
fn triggers_run_in_the_child() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nONBUILD COPY f /f\nONBUILD RUN cat /f >/g\n",
        ),
        ("f", "from the child"),
    ]);
    built(&daemon, &context, &["-t", "parent"]);
    context.write("Dockerfile", "FROM parent\nCMD cat /g\n");
    let output = built(&daemon, &context, &["-t", "child"]);
    assert!(output.contains("# Executing 2 build triggers"), "{output}");
    assert_eq!(
        daemon.docker(&["run", "--rm", "child"]).unwrap(),
        "from the child"
    );
}

#[test]
fn archives_are_unpacked_by_add_only() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nADD a.tar.gz /added/\nCOPY a.tar.gz /copied/\nADD plain /added/\n",
        ),
        ("in/file", "packed"),
        ("plain", "no archive"),
    ]);
    let status = std::process::Command::new("tar")
        .current_dir(context.path())
        .args(["-czf", "a.tar.gz", "in"])
        .status();
    assert!(status.unwrap().success());
    built(&daemon, &context, &["-t", "add"]);
    let listed = daemon
        .docker(&[
            "run",
            "--rm",
            "add",
            "sh",
            "-c",
            "cat /added/in/file; ls /copied /added",
        ])
        .unwrap();
    assert_eq!(listed, "packed/added:\nin\nplain\n\n/copied:\na.tar.gz\n");
}

#[test]
fn what_is_copied_twice_is_two_files() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nRUN mkdir /old && ln -s old /new && echo before > /old/file\n\
             COPY d/file /once\nCOPY d/file /twice\nCOPY . d /several/\n\
             COPY --chown=5:6 d/other /owned\nCOPY d /new/\nRUN echo more >> /once\n",
        ),
        ("d/file", "text\n"),
        ("d/other", "other\n"),
    ]);
    built(&daemon, &context, &["-t", "twice"]);
    let files = "/once /twice /several/file /several/d/file /owned /old/file /old/other";
    let script = format!("stat -c %i:%h {files}; cat {files}; stat -c %u:%g /owned /twice");
    let output = daemon
        .cais(&["run", "--rm", "twice", "sh", "-c", &script])
        .unwrap();
    let lines: Vec<&str> = output.lines().collect();
    let (inodes, rest) = lines.split_at(7);
    let different: HashSet<_> = inodes.iter().collect();
    assert_eq!(different.len(), 7, "{inodes:?}");
    assert!(inodes.iter().all(|one| one.ends_with(":1")), "{inodes:?}");
    assert_eq!(
        rest,
        [
            "text", "more", "text", "text", "text", "other", "text", "other", "5:6", "0:0"
        ]
    );
    // Nothing of one build is changed by another one of the same files.
    built(&daemon, &context, &["--no-cache", "-t", "again"]);
    let once = ["run", "--rm", "again", "cat", "/once", "/twice"];
    assert_eq!(daemon.cais(&once).unwrap(), "text\nmore\ntext\n");
}

#[test]
fn mounts_are_there_during_the_step_only() {
    let daemon = daemon();
    let step = "RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/tmp/t \
                --mount=type=bind,source=dir,target=/src,ro \
                cat /src/f >>/cache/seen; cat /cache/seen >/seen; touch /tmp/t/x; ! touch /src/no\n";
    let context = Context::new(&[
        ("Dockerfile", &format!("FROM busybox\n{step}")),
        ("dir/f", "x"),
    ]);
    built(&daemon, &context, &["-t", "first"]);
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "first", "cat", "/seen"])
            .unwrap(),
        "x"
    );
    assert_eq!(cached(&built(&daemon, &context, &[])), 1);
    context.write("dir/f", "y");
    assert_eq!(
        cached(&built(&daemon, &context, &["-t", "second"])),
        0,
        "the mounted file changed"
    );
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "second", "cat", "/seen"])
            .unwrap(),
        "xy"
    );
    let left = daemon
        .docker(&["run", "--rm", "second", "find", "/cache", "/src"])
        .unwrap();
    assert_eq!(
        left, "/cache\n/src\n",
        "nothing of the mounts is in the layer"
    );
}

#[test]
fn a_client_that_goes_takes_its_build_along() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN sleep 1000\n")]);
    let path = context.path().to_string_lossy().into_owned();
    let mut command = daemon.client("docker", &["build", &path]);
    let mut client = command
        .env("DOCKER_BUILDKIT", "0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let running = || daemon.docker(&["ps", "-q"]).unwrap();
    wait_until("the step runs", || !running().is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("the step's container is gone", || {
        daemon.docker(&["ps", "-aq"]).unwrap().is_empty()
    });
    let contexts = daemon.data_root().join("build/contexts");
    wait_until("the context is gone", || {
        fs::read_dir(&contexts).unwrap().count() == 0
    });
}

#[test]
fn a_killed_daemon_leaves_nothing_and_the_next_build_goes_on() {
    let mut daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo x >/x\nRUN test -e /go || sleep 1000\n",
    )]);
    let path = context.path().to_string_lossy().into_owned();
    let mut command = daemon.client("docker", &["build", &path]);
    let mut client = command
        .env("DOCKER_BUILDKIT", "0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the second step runs", || {
        daemon
            .docker(&["ps", "--no-trunc", "--format", "{{.Command}}"])
            .unwrap()
            .contains("sleep")
    });
    daemon.kill().unwrap();
    client.wait().unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.docker(&["ps", "-aq"]).unwrap(), "");
    assert!(!daemon.data_root().join("build/contexts").exists());
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN echo x >/x\nRUN echo y >/y\n",
    );
    assert_eq!(
        cached(&built(&daemon, &context, &[])),
        1,
        "the finished step is kept"
    );
}

#[test]
fn ignored_files_are_not_seen() {
    let daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY . /all\n"),
        (".dockerignore", "*\n!keep\n!Dockerfile\nkeep/not\n"),
        ("keep/a", ""),
        ("keep/not", ""),
        ("other", ""),
    ]);
    built(&daemon, &context, &["-t", "ignore"]);
    let found = daemon
        .docker(&[
            "run",
            "--rm",
            "ignore",
            "sh",
            "-c",
            "cd /all; find . | sort",
        ])
        .unwrap();
    assert_eq!(found, ".\n./Dockerfile\n./keep\n./keep/a\n");
}

#[test]
fn limits_hosts_and_networks_reach_the_steps() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN grep -q '10.9.8.7.*there' /etc/hosts && ulimit -n | grep -qx 77\n\
         RUN --network=none test $(ls /sys/class/net) = lo\n",
    )]);
    built(
        &daemon,
        &context,
        &["--add-host", "there:10.9.8.7", "--ulimit", "nofile=77:77"],
    );
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN test $(ls /sys/class/net) = lo\n",
    );
    built(&daemon, &context, &["--network", "none"]);
}

#[test]
fn docker_py_builds() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nARG A\nRUN echo $A >/a\n")]);
    let script = "import docker, sys\n\
        client = docker.from_env()\n\
        image, log = client.images.build(path=sys.argv[1], tag='py:1', buildargs={'A': 'b'}, labels={'l': 'm'}, rm=True)\n\
        assert image.tags == ['py:1'] and image.labels == {'l': 'm'}, image.attrs\n\
        assert any('Successfully built' in line.get('stream', '') for line in log)\n\
        assert client.containers.run('py:1', 'cat /a', remove=True) == b'b\\n'\n\
        import io\n\
        try:\n\
        \x20   client.images.build(fileobj=io.BytesIO(b'FROM busybox\\nRUN exit 7\\n'))\n\
        except docker.errors.BuildError as error:\n\
        \x20   assert 'returned a non-zero code: 7' in str(error), error\n\
        else:\n\
        \x20   raise SystemExit('no error')\n";
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let path = context.path().to_string_lossy().into_owned();
    let output = daemon
        .client(python, &["-c", script, &path])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_base_that_is_missing_is_pulled() {
    let daemon = daemon();
    let registry = Registry::start();
    let name = format!("127.0.0.1:{}/base:1", registry.port);
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    daemon.docker(&["push", "-q", &name]).unwrap();
    daemon.docker(&["rmi", &name]).unwrap();
    let context = Context::new(&[("Dockerfile", &format!("FROM {name}\nRUN echo x >/x\n"))]);
    let output = built(&daemon, &context, &["-t", "pulled"]);
    assert!(output.contains("Pulling from base"), "{output}");
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "pulled", "cat", "/x"])
            .unwrap(),
        "x\n"
    );
    let output = built(&daemon, &context, &["--pull"]);
    assert!(
        output.contains("Pulling from base") && cached(&output) == 1,
        "{output}"
    );
}

#[test]
fn a_base_behind_a_login_is_pulled_by_who_knows_it() {
    let daemon = daemon();
    let registry = Registry::with("me:secret");
    let server = format!("127.0.0.1:{}", registry.port);
    let name = format!("{server}/base:1");
    let login = ["login", "-u", "me", "-p", "secret", &server];
    daemon.docker(&login).unwrap();
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    daemon.docker(&["push", "-q", &name]).unwrap();
    let context = Context::new(&[("Dockerfile", &format!("FROM {name}\nRUN echo x >/x\n"))]);
    let path = context.path().to_string_lossy();
    let again = || daemon.docker(&["rmi", &name]).unwrap();
    again();
    built(&daemon, &context, &["-t", "mine"]);
    again();
    daemon.cais(&["build", "-q", &path]).unwrap();
    again();
    daemon.docker(&["logout", &server]).unwrap();
    let (_, error) = fails(&daemon, &context, &["-t", "mine"]);
    assert!(error.contains("no basic auth credentials"), "{error}");
    assert!(daemon.cais(&["build", "-q", &path]).is_err());
}

#[test]
fn a_dockerfile_from_elsewhere_is_sent_along() {
    let daemon = daemon();
    let context = Context::new(&[("f", "x")]);
    let elsewhere = daemon.scratch().join("other.Dockerfile");
    fs::write(&elsewhere, "FROM busybox\nCOPY f /f\n").unwrap();
    let path = elsewhere.to_string_lossy();
    built(&daemon, &context, &["-t", "elsewhere", "-f", &path]);
    let found = daemon
        .docker(&["run", "--rm", "elsewhere", "cat", "/f"])
        .unwrap();
    assert_eq!(found, "x");
}

#[test]
fn cais_builds_as_docker_does() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY . /all\nRUN find /all | sort >/found\n",
        ),
        (".dockerignore", "*\n!dir\ndir/not\n"),
        ("dir/yes", ""),
        ("dir/not", ""),
        ("other", ""),
    ]);
    let path = context.path().to_string_lossy().into_owned();
    let iidfile = daemon.scratch().join("iid").to_string_lossy().into_owned();
    daemon
        .cais(&["build", "-t", "ours", "--iidfile", &iidfile, &path])
        .unwrap();
    let found = daemon
        .cais(&["run", "--rm", "ours", "cat", "/found"])
        .unwrap();
    assert_eq!(found, "/all\n/all/dir\n/all/dir/yes\n");
    let id = fs::read_to_string(&iidfile).unwrap();
    assert_eq!(daemon.cais(&["build", "-q", &path]).unwrap().trim(), id);
    // The same context by the other client makes the same steps.
    assert_eq!(cached(&built(&daemon, &context, &[])), 2);
    let other = Context::new(&[("Dockerfile", "FROM busybox\nRUN exit 9\n")]);
    let path = other.path().to_string_lossy().into_owned();
    let output = daemon.cais_output(&["image", "build", &path]).unwrap();
    assert_eq!(output.status.code(), Some(9));
    daemon.cais(&["builder", "prune", "-af"]).unwrap();
    assert_eq!(cached(&built(&daemon, &context, &[])), 0);
}
