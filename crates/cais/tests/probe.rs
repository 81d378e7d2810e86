//! A small static program for the inside of containers, and images made for one test.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use cais_testkit::{BaseImage, TestDaemon, base_image};

/// The program, compiled once and kept beside the base images.
pub fn program() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    include_str!("probe.c").hash(&mut hasher);
    let images = base_image(BaseImage::Busybox).unwrap();
    let path = images.with_file_name(format!("probe-{:x}", hasher.finish()));
    if path.exists() {
        return path;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe.c");
    let temporary = tempfile::TempDir::new_in(images.parent().unwrap()).unwrap();
    let made = temporary.path().join("probe");
    let status = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .args([&made, &source])
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(made, &path).unwrap();
    path
}

/// The flag that brings the program into a container as `/probe`.
pub fn mount() -> String {
    format!("--volume={}:/probe:ro", program().display())
}

/// Imports an image whose root has busybox and what `fill` adds, with Dockerfile instructions as its configuration.
pub fn import(daemon: &TestDaemon, name: &str, changes: &[&str], fill: impl FnOnce(&Path)) {
    let root = tempfile::TempDir::new_in(daemon.scratch()).unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "cat", "id", "ls", "true", "sleep", "grep", "touch"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    fill(root.path());
    let archive = daemon.scratch().join(format!("{name}.tar"));
    let packed = Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .arg("-cf")
        .args([archive.as_os_str(), ".".as_ref()])
        .status()
        .unwrap();
    assert!(packed.success());
    let archive = archive.to_string_lossy();
    let mut args = vec!["import"];
    for change in changes {
        args.extend(["--change", change]);
    }
    args.extend([&*archive, name]);
    daemon.cais(&args).unwrap();
}
