//! Contexts and sources of ADD in git repositories, served by git's own daemon on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cais_testkit::{TestDaemon, wait_until};

use crate::build::{Context, built, fails};
use crate::daemon;
use crate::networks::free_ports;

fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=me", "-c", "user.email=me@example.org"])
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Repositories behind `git://`.
struct Server {
    process: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start(daemon: &TestDaemon) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_ports(daemon, 1);
        // Not by `git daemon`, which is a parent that leaves its child behind.
        let programs = PathBuf::from(git(directory.path(), &["--exec-path"]));
        let process = Command::new(programs.join("git-daemon"))
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("git's daemon", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            process,
            directory,
            port,
        }
    }

    fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// A new repository with one commit of these files.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q"]);
        for (file, text) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        self.commit(&path);
        path
    }

    fn commit(&self, path: &Path) -> String {
        git(path, &["add", "-A"]);
        git(path, &["commit", "-q", "--allow-empty", "-m", "more"]);
        git(path, &["rev-parse", "HEAD"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn says(daemon: &TestDaemon, image: &str, script: &str) -> String {
    daemon
        .cais(&["run", "--rm", image, "sh", "-c", script])
        .unwrap()
}

/// What a client that leaves the fetching to the daemon is told.
fn remote(daemon: &TestDaemon, url: &str, tag: &str) -> String {
    let output = Command::new("curl")
        .args(["-sS", "-G", "-X", "POST", "--unix-socket"])
        .arg(daemon.scratch().join("s"))
        .args(["--data-urlencode", &format!("remote={url}")])
        .args(["--data-urlencode", &format!("t={tag}")])
        .arg("http://localhost/v1.44/build")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_repository_is_a_context_by_branch_tag_commit_and_directory() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    let dockerfile = "FROM busybox\nCOPY . /all\n";
    let path = server.repository("one", &[("Dockerfile", dockerfile), ("file", "first\n")]);
    let first = git(&path, &["rev-parse", "HEAD"]);
    git(&path, &["tag", "-m", "one", "v1"]);
    fs::write(path.join("file"), "second\n").unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("sub/Dockerfile"), "FROM busybox\nCOPY . /sub\n").unwrap();
    fs::write(path.join("sub/only"), "only\n").unwrap();
    server.commit(&path);
    let url = server.url("one");
    let short = &first[..12];
    for (fragment, text) in [
        ("", "second\n"),
        ("#main", "second\n"),
        ("#v1", "first\n"),
        (&format!("#{first}"), "first\n"),
        (&format!("#{short}"), "first\n"),
        (&format!("?checksum={short}#v1"), "first\n"),
    ] {
        let whole = format!("{url}{fragment}");
        daemon.cais(&["build", "-q", "-t", "mine", &whole]).unwrap();
        let script = "cat /all/file; test ! -e /all/.git";
        assert_eq!(says(&daemon, "mine", script), text, "{fragment}");
        let told = remote(&daemon, &whole, "theirs");
        assert!(told.contains("Successfully tagged theirs:latest"), "{told}");
        assert_eq!(says(&daemon, "theirs", script), text, "{fragment}");
    }
    let sub = format!("{url}#main:sub");
    daemon.cais(&["build", "-q", "-t", "sub", &sub]).unwrap();
    assert_eq!(says(&daemon, "sub", "cd /sub && ls"), "Dockerfile\nonly\n");
    for (fragment, words) in [
        ("#nowhere", "unable to fetch git://"),
        ("#main:none", "no directory \"none\" in the repository"),
        (
            "?checksum=0000000#v1",
            "expected checksum to match 0000000, got ",
        ),
        (
            "?mtime=commit#v1",
            "mtime=commit of a git repository is not built yet",
        ),
    ] {
        let whole = format!("{url}{fragment}");
        let output = daemon.cais_output(&["build", &whole]).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(words),
            "{fragment}: {text}"
        );
        let told = remote(&daemon, &whole, "bad");
        assert!(
            told.replace("\\\"", "\"").contains(words),
            "{fragment}: {told}"
        );
    }
    let contexts = daemon.data_root().join("build/contexts");
    wait_until("no context is left", || {
        fs::read_dir(&contexts).unwrap().next().is_none()
    });
}

#[test]
fn a_repository_is_added() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    let part = server.repository("part", &[("inner", "inner\n")]);
    let path = server.repository("one", &[("file", "text\n"), ("dir/more", "more\n")]);
    let relative = ["submodule", "add", "-q", "--", "../part", "module"];
    git(&path, &["remote", "add", "origin", &path.to_string_lossy()]);
    git(&path, &relative);
    server.commit(&path);
    drop(part);
    let url = server.url("one");
    let text = format!(
        "FROM busybox\nADD {url} /plain\nADD --keep-git-dir=true {url}#main /whole\nADD --exclude=dir {url} /part\n"
    );
    let context = Context::new(&[("Dockerfile", &text)]);
    built(&daemon, &context, &["-t", "added"]);
    let script = "cat /plain/file /plain/dir/more /plain/module/inner; ls -a /plain; \
                  test -d /whole/.git && ls /part; stat -c %u:%g /plain/file";
    assert_eq!(
        says(&daemon, "added", script),
        "text\nmore\ninner\n.\n..\n.gitmodules\ndir\nfile\nmodule\nfile\nmodule\n0:0\n"
    );
    let again = built(&daemon, &context, &[]);
    assert_eq!(
        again.matches("Using cache").count(),
        1,
        "the index has times: {again}"
    );
    context.write(
        "Dockerfile",
        &format!("FROM busybox\nADD --checksum=0123456 {url} /\n"),
    );
    let (_, error) = fails(&daemon, &context, &[]);
    assert!(
        error.contains("expected checksum to match 0123456"),
        "{error}"
    );
}

#[test]
fn repositories_are_added_beside_files_and_each_other() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    server.repository("one", &[("a", "a\n"), ("dir/both", "first\n")]);
    server.repository("two", &[("b", "b\n"), ("dir/both", "second\n")]);
    let (one, two) = (server.url("one"), server.url("two"));
    let text = format!("FROM busybox\nADD file {one} {two} /all/\n");
    let context = crate::build::Context::new(&[("Dockerfile", &text), ("file", "own\n")]);
    crate::build::built(&daemon, &context, &["-t", "added"]);
    let seen = says(
        &daemon,
        "added",
        "cd /all && find . -type f | sort && cat file a b dir/both && ! ls -d .git",
    );
    assert!(
        seen.starts_with("./a\n./b\n./dir/both\n./file\nown\na\nb\nsecond\n"),
        "{seen}"
    );
    let again = crate::build::built(&daemon, &context, &[]);
    assert_eq!(crate::build::cached(&again), 1, "{again}");
}

#[test]
fn cve_2022_39253_a_repository_reads_no_files_of_the_host() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    let secret = daemon.scratch().join("secret");
    fs::write(&secret, "FROM busybox\n# the secret\n").unwrap();
    let path = server.repository("links", &[("file", "")]);
    std::os::unix::fs::symlink(&secret, path.join("Dockerfile")).unwrap();
    server.commit(&path);
    let own = server.repository("own", &[("Dockerfile", "FROM busybox\nCOPY . /all\n")]);
    let local = server.repository("local", &[("stolen", "")]);
    git(
        &own,
        &[
            "submodule",
            "add",
            "-q",
            "--",
            &local.to_string_lossy(),
            "module",
        ],
    );
    server.commit(&own);
    for (name, words) in [
        (
            "links",
            [
                "Dockerfile leads out of the repository",
                "Cannot locate specified Dockerfile",
            ],
        ),
        ("own", ["transport 'file' not allowed"; 2]),
    ] {
        let url = server.url(name);
        let output = daemon.cais_output(&["build", &url]).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(words[0]),
            "{text}"
        );
        let told = remote(&daemon, &url, "bad");
        assert!(
            told.contains(words[1]) && !told.contains("the secret"),
            "{told}"
        );
    }
}

#[test]
fn cve_2019_13139_a_reference_is_no_option() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    server.repository("one", &[("Dockerfile", "FROM busybox\n")]);
    let mark = daemon.scratch().join("executed");
    let url = format!(
        "{}#--upload-pack=touch {}",
        server.url("one"),
        mark.display()
    );
    let output = daemon.cais_output(&["build", &url]).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("invalid git reference"), "{text}");
    assert!(remote(&daemon, &url, "bad").contains("invalid git reference"));
    let context = Context::new(&[(
        "Dockerfile",
        &format!("FROM busybox\nADD [\"{url}\", \"/\"]\n"),
    )]);
    fails(&daemon, &context, &[]);
    assert!(!mark.exists());
}

#[test]
fn cve_2026_33748_a_directory_of_a_repository_stays_in_it() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    let path = server.repository("one", &[("Dockerfile", "FROM busybox\n")]);
    std::os::unix::fs::symlink(daemon.scratch(), path.join("out")).unwrap();
    server.commit(&path);
    fs::write(daemon.scratch().join("Dockerfile"), "FROM busybox\n").unwrap();
    for directory in ["out", "../..", "/out", ".git"] {
        let url = format!("{}#main:{directory}", server.url("one"));
        assert!(daemon.cais(&["build", "-q", &url]).is_err(), "{directory}");
        let told = remote(&daemon, &url, "bad");
        assert!(told.contains("repository"), "{directory}: {told}");
    }
}

#[test]
fn cve_2026_44517_what_a_server_sends_brings_no_file_of_the_host() {
    let daemon = daemon();
    let secret = daemon.scratch().join("kept/secret");
    fs::create_dir_all(secret.parent().unwrap()).unwrap();
    fs::write(&secret, "the secret\n").unwrap();
    let links = |directory: &Path| {
        std::os::unix::fs::symlink(&secret, directory.join("link")).unwrap();
        std::os::unix::fs::symlink(secret.parent().unwrap(), directory.join("door")).unwrap();
    };
    let server = Server::start(&daemon);
    let whole = "FROM busybox\nCOPY . /all/\n";
    let path = server.repository("whole", &[("Dockerfile", whole)]);
    links(&path);
    server.commit(&path);
    let added = format!("FROM busybox\nADD {} /all/\n", server.url("whole"));
    server.repository("added", &[("Dockerfile", &added)]);
    // A link stays a link, and what it says is not there in the image.
    let script =
        "test -L /all/link && test -L /all/door && ! cat /all/link && ! cat /all/door/secret";
    for name in ["whole", "added"] {
        let url = server.url(name);
        daemon.cais(&["build", "-q", "-t", "here", &url]).unwrap();
        says(&daemon, "here", script);
        let told = remote(&daemon, &url, "there");
        assert!(told.contains("Successfully tagged"), "{name}: {told}");
        says(&daemon, "there", script);
    }
    for (name, copy) in [
        ("a", "COPY link /x"),
        ("b", "COPY door/secret /x"),
        ("c", "ADD door /x/"),
    ] {
        let path = server.repository(name, &[("Dockerfile", &format!("FROM busybox\n{copy}\n"))]);
        links(&path);
        server.commit(&path);
        let url = server.url(name);
        let output = daemon.cais_output(&["build", &url]).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let told = remote(&daemon, &url, "bad");
        for told in [text, told] {
            assert!(
                told.contains("file not found in build context"),
                "{copy}: {told}"
            );
        }
    }
}

#[test]
fn cve_2026_44517_an_archive_brings_no_file_of_the_host() {
    let daemon = daemon();
    let secret = daemon.scratch().join("secret");
    fs::write(&secret, "the secret\n").unwrap();
    let archive = |kind: tar::EntryType, to: &Path| {
        let mut builder = tar::Builder::new(Vec::new());
        let text = b"FROM busybox\nCOPY own/secret /x\n";
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "Dockerfile", &text[..])
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        let name = if kind == tar::EntryType::Symlink {
            "own"
        } else {
            "own/secret"
        };
        builder.append_link(&mut header, name, to).unwrap();
        builder.into_inner().unwrap()
    };
    for (bytes, words) in [
        (
            archive(tar::EntryType::Symlink, daemon.scratch()),
            "file not found in build context",
        ),
        (
            archive(tar::EntryType::Link, &secret),
            "link /own/secret: no such file or directory",
        ),
    ] {
        let file = daemon.scratch().join("context.tar");
        fs::write(&file, bytes).unwrap();
        let output = Command::new("curl")
            .args(["-sS", "-X", "POST", "--unix-socket"])
            .arg(daemon.scratch().join("s"))
            .args(["-H", "Content-Type: application/x-tar", "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg("http://localhost/v1.44/build?t=bad")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("the secret"), "{told}");
    }
}

#[test]
fn a_repository_is_a_context_with_a_name() {
    let daemon = daemon();
    let server = Server::start(&daemon);
    server.repository("one", &[("sub/file", "of the repository\n")]);
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nCOPY --from=source file /copied\nRUN --mount=from=source,target=/m cp /m/file /mounted\n",
    )]);
    let flag = format!("source={}#:sub", server.url("one"));
    let path = context.path().to_string_lossy().into_owned();
    let made = daemon.cais(&["build", "-q", "-t", "made", "--build-context", &flag, &path]);
    made.unwrap();
    assert_eq!(
        says(&daemon, "made", "cat /copied /mounted"),
        "of the repository\nof the repository\n"
    );
}
