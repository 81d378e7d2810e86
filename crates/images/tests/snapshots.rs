//! Read/write layers on real overlay mounts.

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use cais_images::{ChangeKind, RemoveOptions};
use cais_types::{ContainerId, Digest};

use crate::kit::{Root, Tar, TestImage, container, load, through};

fn image(layers: Vec<Vec<u8>>) -> TestImage {
    TestImage::new(&["base"], layers)
}

fn base() -> TestImage {
    let lower = Tar::default()
        .entry("etc/", b'5', "", 0o751, b"")
        .file("etc/passwd", b"root")
        .file("etc/hosts", b"from the image")
        .dir("dir/")
        .file("dir/a", b"a")
        .file("dir/b", b"b")
        .file("gone", b"x")
        .end();
    let upper = Tar::default().file("dir/c", b"c").end();
    image(vec![lower, upper])
}

fn prepared() -> (Root, cais_images::Store, Digest, ContainerId) {
    let (root, image) = (Root::new(), base());
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let id = container(1);
    store.create(&id, &image.id()).unwrap();
    (root, store, image.id(), id)
}

#[test]
fn every_container_gets_its_mount_points_with_the_metadata_of_the_image() {
    let (_root, store, image, id) = prepared();
    let merged = store.open_root(&id, &image).unwrap();
    let stat = |path| std::fs::symlink_metadata(through(&merged, path)).unwrap();
    for directory in ["proc", "sys", "dev/pts", "dev/shm"] {
        assert!(stat(directory).is_dir(), "{directory}");
    }
    for file in [
        ".dockerenv",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "dev/console",
    ] {
        assert!(stat(file).is_file() && stat(file).len() == 0, "{file}");
    }
    let mtab = std::fs::read_link(through(&merged, "etc/mtab")).unwrap();
    assert_eq!(mtab.to_str(), Some("/proc/mounts"));
    assert_eq!(stat("etc").mode() & 0o7777, 0o751);
    assert_eq!(stat("etc").mtime(), 1_600_000_000);
    assert_eq!(stat("").mode() & 0o7777, 0o755);
    assert_eq!(store.changes(&id, &image).unwrap(), []);
    drop(merged);
    let merged = store.open_image_root(&image).unwrap();
    let hosts = std::fs::read(through(&merged, "etc/hosts")).unwrap();
    assert_eq!(hosts, b"from the image");
}

#[test]
fn images_with_links_for_directories_and_without_layers_work() {
    let linked = Tar::default()
        .dir("usr/")
        .dir("usr/etc/")
        .symlink("etc", "usr/etc")
        .symlink("dev", "/tmp/x")
        .symlink("proc", "/host")
        .end();
    let (root, linked, empty) = (Root::new(), image(vec![linked]), image(vec![]));
    let store = root.open();
    load(&store, &linked.docker_archive()).unwrap();
    load(&store, &empty.docker_archive()).unwrap();
    let outside = std::path::Path::new("/tmp/x");
    assert!(!outside.exists(), "another test's file");
    store.create(&container(1), &linked.id()).unwrap();
    store.create(&container(2), &empty.id()).unwrap();
    assert!(!outside.exists());
    let merged = store.open_root(&container(1), &linked.id()).unwrap();
    assert!(through(&merged, "usr/etc/hosts").is_file());
    assert!(through(&merged, "tmp/x/pts").is_dir());
    assert!(
        std::fs::symlink_metadata(through(&merged, "proc"))
            .unwrap()
            .is_dir()
    );
    assert_eq!(store.changes(&container(1), &linked.id()).unwrap(), []);
    let merged = store.open_root(&container(2), &empty.id()).unwrap();
    assert!(through(&merged, "etc/hosts").is_file());
    assert!(store.open_image_root(&empty.id()).is_ok());
}

#[test]
fn changes_are_told_as_docker_diff_does() {
    let (_root, store, image, id) = prepared();
    let merged = store.open_root(&id, &image).unwrap();
    let path = |below| through(&merged, below);
    std::fs::write(path("etc/passwd"), b"changed").unwrap();
    std::fs::remove_file(path("gone")).unwrap();
    std::fs::create_dir(path("new")).unwrap();
    std::fs::write(path("new/file"), b"").unwrap();
    // A directory made anew hides what was in it.
    std::fs::remove_dir_all(path("dir")).unwrap();
    std::fs::create_dir(path("dir")).unwrap();
    std::fs::write(path("dir/c"), b"other").unwrap();
    std::fs::write(path("temporary"), b"").unwrap();
    std::fs::remove_file(path("temporary")).unwrap();
    symlink("x", path("link")).unwrap();
    let changes = store.changes(&id, &image).unwrap();
    let shown: Vec<_> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{kind} {}", change.path)
        })
        .collect();
    let want = [
        "C /dir",
        "D /dir/a",
        "D /dir/b",
        "C /dir/c",
        "C /etc",
        "C /etc/passwd",
        "D /gone",
        "A /link",
        "A /new",
        "A /new/file",
    ];
    assert_eq!(shown, want);
    let (own, all) = store.usage(&id, &image).unwrap();
    assert_eq!(own, 7 + 5 + 1);
    assert_eq!(all, own + store.resolve("base").unwrap().size);
}

#[test]
fn removal_and_retain_leave_nothing_and_follow_nothing() {
    let (root, store, image, id) = prepared();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), b"").unwrap();
    let merged = store.open_root(&id, &image).unwrap();
    symlink(outside.path(), through(&merged, "out")).unwrap();
    // Deeper than any path may be long.
    let mut directory = rustix::fs::openat(
        merged.as_fd(),
        c".",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let name = "d".repeat(200);
    for _ in 0..300 {
        rustix::fs::mkdirat(&directory, &*name, 0o700.into()).unwrap();
        let flags = rustix::fs::OFlags::RDONLY;
        directory = rustix::fs::openat(&directory, &*name, flags, 0.into()).unwrap();
    }
    drop((directory, merged));
    store.create(&container(2), &image).unwrap();
    store.remove(&id).unwrap();
    store.remove(&id).unwrap();
    assert_eq!(root.names("containers"), [container(2).to_string()]);
    store.create(&container(3), &image).unwrap();
    store.retain(&[container(3)]).unwrap();
    assert_eq!(root.names("containers"), [container(3).to_string()]);
    assert!(outside.path().join("kept").exists());
}

#[test]
fn layers_outlive_a_forced_removal_while_a_container_stands_on_them() {
    let (root, store, image, id) = prepared();
    let force = RemoveOptions {
        force: true,
        prune_parents: true,
    };
    store.remove_image("base", force, &[]).unwrap();
    assert!(store.resolve("base").is_err());
    assert!(store.create(&container(2), &image).is_err());
    drop(store);
    let store = root.open();
    let merged = store.open_root(&id, &image).unwrap();
    assert!(through(&merged, "etc/passwd").is_file());
    drop(merged);
    assert_eq!(root.names("layers").len(), 2);
    store.remove(&id).unwrap();
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn two_hundred_layers_mount() {
    let layers = (0..200).map(|number| {
        let name = format!("file-{number}");
        Tar::default().file(&name, name.as_bytes()).end()
    });
    let (root, image) = (Root::new(), image(layers.collect()));
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    store.create(&container(1), &image.id()).unwrap();
    let merged = store.open_root(&container(1), &image.id()).unwrap();
    assert!(through(&merged, "file-0").is_file());
    assert!(through(&merged, "file-199").is_file());
}

#[test]
fn files_are_copied_into_a_stopped_container_below_its_root() {
    let (_root, store, image, id) = prepared();
    let merged = store.open_root(&id, &image).unwrap();
    symlink("/etc", through(&merged, "way")).unwrap();
    let archive = Tar::default()
        .file("way/copied", b"inside")
        .entry("dir/a", b'5', "", 0o700, b"")
        .end();
    let root = rustix::io::fcntl_dupfd_cloexec(&merged, 0).unwrap();
    let totals = cais_images::extract_into(root, &*archive).unwrap();
    assert_eq!(totals.bytes, 6);
    assert_eq!(
        std::fs::read(through(&merged, "etc/copied")).unwrap(),
        b"inside"
    );
    let replaced = std::fs::metadata(through(&merged, "dir/a")).unwrap();
    assert!(replaced.is_dir() && replaced.permissions().mode() & 0o777 == 0o700);
}
