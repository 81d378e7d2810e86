//! Small Dockerfiles, one for each row of the language's reference, built by cais and by real docker: the same
//! configuration, history, files, modes and owners, but for what `corpus/differences` explains.
//!
//! What docker's two builders make is kept in `corpus/expected`, so that this needs no dockerd; `scripts/corpus-peers`
//! builds it anew with real ones and compares, or writes it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use cais_testkit::{Differences, contents};

use crate::{CAIS, daemon};

/// Builds at a time.
const SIDE_BY_SIDE: usize = 4;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// A Dockerfile with the flags it is built with.
#[derive(Debug)]
struct Case {
    name: String,
    flags: Vec<String>,
}

fn cases() -> Vec<Case> {
    let flags = fs::read_to_string(corpus().join("flags")).unwrap();
    let flags: BTreeMap<&str, &str> = flags
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let files = fs::read_dir(corpus().join("dockerfiles")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".ignore")).collect();
    names.sort();
    let case = |name: String| Case {
        flags: flags.get(&*name).map_or(Vec::new(), |text| {
            text.split(' ').map(str::to_owned).collect()
        }),
        name,
    };
    names.into_iter().map(case).collect()
}

fn file(path: &Path, mode: u32, bytes: impl AsRef<[u8]>) {
    let parent = path.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An archive with a directory, a file and a link, of this owner.
fn archive(owner: u64) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(1_700_000_000);
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o750);
    header.set_size(0);
    archive.append_data(&mut header, "in/", &[][..]).unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o640);
    header.set_size(7);
    archive
        .append_data(&mut header, "in/file", &b"packed\n"[..])
        .unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    archive.append_link(&mut header, "in/link", "file").unwrap();
    archive.into_inner().unwrap()
}

/// The files that every Dockerfile sees.
fn context(root: &Path) {
    for (path, text) in [
        ("a.txt", "a\n"),
        ("b.txt", "b\n"),
        ("with space.txt", "space\n"),
        ("dir/one", "one\n"),
        ("dir/two.md", "two\n"),
        ("dir/sub/three", "three\n"),
        ("links/target", "target\n"),
    ] {
        file(&root.join(path), 0o644, text);
    }
    file(&root.join("tool.sh"), 0o755, "#!/bin/sh\n");
    file(&root.join("private"), 0o600, "private\n");
    file(&root.join("archive.tar"), 0o644, archive(0));
    file(&root.join("owned.tar"), 0o644, archive(1234));
    symlink("a.txt", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("target", root.join("links/inner")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for directory in ["dir", "dir/sub", "links", "empty"] {
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let packed = Command::new("gzip")
        .args(["--no-name", "--keep", "archive.tar"])
        .current_dir(root)
        .status();
    assert!(packed.unwrap().success());
}

/// A client of some daemon.
type Client<'a> = &'a (dyn Fn(&[&str]) -> Command + Sync);

/// Builds one Dockerfile and tells what came out.
fn build(case: &Case, client: Client<'_>) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("context");
    fs::create_dir(&root).unwrap();
    context(&root);
    let source = corpus().join("dockerfiles").join(&case.name);
    file(&root.join("Dockerfile"), 0o644, fs::read(&source).unwrap());
    if let Ok(ignore) = fs::read(source.with_file_name(format!("{}.ignore", case.name))) {
        file(&root.join(".dockerignore"), 0o644, ignore);
    }
    let image = format!("corpus-{}", case.name);
    let mut args = vec!["build", "--no-cache", "-t", &image];
    args.extend(case.flags.iter().map(String::as_str));
    let path = root.to_string_lossy();
    args.push(&path);
    let output = client(&args).output().unwrap();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let alive =
            !error.contains("Cannot connect") && !error.contains("error reading from server");
        assert!(alive, "{}: the daemon has died: {error}", case.name);
        return vec!["fails".to_owned()];
    }
    let saved = scratch.path().join("image.tar");
    let save = client(&["save", "-o", &saved.to_string_lossy(), &image]).output();
    let save = save.unwrap();
    assert!(save.status.success(), "{}: {save:?}", case.name);
    let scratch_based = fs::read_to_string(&source)
        .unwrap()
        .lines()
        .rfind(|line| line.starts_with("FROM"))
        .is_some_and(|line| line == "FROM scratch");
    contents::describe(&saved, usize::from(!scratch_based))
        .unwrap_or_else(|error| panic!("{}: {error:#}", case.name))
}

/// Builds everything, some side by side.
fn build_all(client: Client<'_>) -> BTreeMap<String, Vec<String>> {
    let waiting = Mutex::new(cases());
    let built = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else {
                        break;
                    };
                    let lines = build(&case, client);
                    built.lock().unwrap().insert(case.name, lines);
                }
            });
        }
    });
    built.into_inner().unwrap()
}

/// BuildKit words history differently; ours is the classic builder's.
fn seen_by(peer: &str, lines: &[String]) -> Vec<String> {
    let history = |line: &&String| peer == "classic" || !line.starts_with("history ");
    lines.iter().filter(history).cloned().collect()
}

fn expected(peer: &str, name: &str) -> PathBuf {
    corpus().join("expected").join(peer).join(name)
}

/// What the peer made, if it could.
fn wanted(peer: &str, name: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(expected(peer, name)).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn the_corpus_becomes_what_docker_makes_of_it() {
    let daemon = daemon();
    let built = build_all(&|args| daemon.client(CAIS, args));
    let differences =
        Differences::parse(&fs::read_to_string(corpus().join("differences")).unwrap());
    let mut problems = Vec::new();
    for (name, lines) in &built {
        let mut peers = 0;
        for peer in ["classic", "buildkit"] {
            let Some(want) = wanted(peer, name) else {
                continue;
            };
            peers += 1;
            let lines = seen_by(peer, lines);
            for line in differences.unexplained(name, peer, &want, &lines) {
                problems.push(format!("{name} | {peer} | {line}"));
            }
        }
        assert!(peers > 0, "no peer builds {name}");
    }
    for row in differences.unused() {
        problems.push(format!("no difference any more: {row}"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// With `CAIS_CORPUS_WRITE` the expectations are written; a peer that can't build what the other can is not asked.
#[test]
#[ignore = "needs a real dockerd: scripts/corpus-peers"]
fn a_real_docker_makes_what_is_expected() {
    let peer = std::env::var("CAIS_CORPUS_PEER").expect("CAIS_CORPUS_PEER is classic or buildkit");
    let built = build_all(&|args| {
        let mut command = Command::new("docker");
        let buildkit = if peer == "classic" { "0" } else { "1" };
        command.args(args).env("DOCKER_BUILDKIT", buildkit);
        command
    });
    let write = std::env::var_os("CAIS_CORPUS_WRITE").is_some();
    let mut problems = Vec::new();
    for (name, lines) in &built {
        let lines = seen_by(&peer, lines);
        if write {
            file(&expected(&peer, name), 0o644, lines.join("\n") + "\n");
        } else if wanted(&peer, name).is_some_and(|want| want != lines) {
            problems.push(format!("{name}:\n  {}", lines.join("\n  ")));
        }
    }
    assert!(problems.is_empty(), "{peer}: {}", problems.join("\n"));
}
