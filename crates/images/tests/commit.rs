//! Images made of read/write layers.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cais_images::{CommitRequest, RemoveOptions, Store, Upper};
use cais_types::{ContainerId, Digest};
use serde_json::{Value, json};

use crate::kit::{Root, Tar, TestImage, container, load, through};

const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

fn base(store: &Store) -> Digest {
    let layer = Tar::default()
        .dir("etc/")
        .file("etc/keep", b"kept")
        .file("etc/gone", b"x")
        .dir("full/")
        .file("full/old", b"old")
        .dir("tree/")
        .file("tree/a", b"a")
        .end();
    let image = TestImage::new(&["base"], vec![layer]);
    load(store, &image.docker_archive()).unwrap();
    image.id()
}

/// What a program in the container would do, through the overlay mount it would have.
fn change(root: &OwnedFd) {
    let at = |path: &str| through(root, path);
    std::fs::remove_file(at("etc/gone")).unwrap();
    std::fs::remove_dir_all(at("full")).unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/new"), b"new").unwrap();
    std::fs::write(at("etc/keep"), b"changed").unwrap();
    std::fs::write(at("one"), vec![7; 300_000]).unwrap();
    std::fs::hard_link(at("one"), at("two")).unwrap();
    std::fs::set_permissions(at("one"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("etc/keep", at("link")).unwrap();
    let note = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("two"), "user.note", b"hello", note).unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::fs::remove_file(at(".dockerenv")).unwrap();
    std::fs::create_dir(at("tree/deep")).unwrap();
    std::fs::write(at("tree/deep/file"), b"deep").unwrap();
}

fn check(root: &Path) {
    let read = |path: &str| std::fs::read(root.join(path)).unwrap();
    assert_eq!(read("etc/keep"), b"changed");
    assert!(!root.join("etc/gone").exists());
    let names: Vec<_> = std::fs::read_dir(root.join("full")).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(read("full/new"), b"new");
    let (one, two) = (root.join("one"), root.join("two"));
    let (one, two) = (one.metadata().unwrap(), two.metadata().unwrap());
    assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
    assert_eq!(one.mode() & 0o7777, 0o4711);
    let mut value = [0; 16];
    let count = rustix::fs::getxattr(root.join("two"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..count], b"hello");
    assert_eq!(
        std::fs::read_link(root.join("link")).unwrap(),
        Path::new("etc/keep")
    );
    assert_eq!(root.join("sparse").metadata().unwrap().len(), 64 << 20);
    assert!(!root.join("socket").exists());
    assert_eq!(read("tree/a"), b"a");
    assert_eq!(read("tree/deep/file"), b"deep");
}

fn commit(store: &Store, id: &ContainerId, image: Digest, upper: Upper<'_>) -> Digest {
    let layer = store.read_upper(upper, Some(&image)).unwrap();
    let config = json!({"Cmd": ["new"]});
    let request = CommitRequest {
        parent: Some(image),
        config: config.as_object().unwrap().clone(),
        comment: "why".to_owned(),
        created_by: "sh".to_owned(),
        container: Some(*id),
        references: vec!["made:1".parse().unwrap()],
        ..CommitRequest::default()
    };
    store.commit_layer(layer, request).unwrap()
}

#[test]
fn what_a_container_wrote_becomes_a_layer_that_loads_elsewhere() {
    for take in [false, true] {
        let root = Root::new();
        let store = root.open();
        let image = base(&store);
        let id = container(1);
        store.create(&id, &image).unwrap();
        let mount = store.open_root(&id, &image).unwrap();
        change(&mount);
        drop(mount);
        let upper = store.upper(&id);
        let made = match take {
            false => commit(&store, &id, image, Upper::Copy(&upper)),
            true => commit(&store, &id, image, Upper::Take(&upper)),
        };
        assert_eq!(upper.exists(), !take);
        store.remove(&id).unwrap();
        let found = store.inspect("made:1").unwrap();
        assert_eq!((found.image.id, found.image.parent), (made, Some(image)));
        assert_eq!(found.image.diffs.len(), 2);
        let mount = store.open_image_root(&made).unwrap();
        check(&through(&mount, ""));
        drop(mount);
        let config: Value = serde_json::from_slice(&store.config_bytes(&made).unwrap()).unwrap();
        assert_eq!(config["config"], json!({"Cmd": ["new"]}));
        assert_eq!(config["history"][1]["created_by"], "sh");
        assert_eq!(config["history"][1]["comment"], "why");
        assert_eq!(config["container"], id.to_string());
        // The record makes the stream again, which has the digest the image names.
        let mut archive = Vec::new();
        store
            .save(&["made:1".to_owned()], None, &mut archive)
            .unwrap();
        let other = Root::new();
        let elsewhere = other.open();
        assert_eq!(load(&elsewhere, &archive).unwrap()[0].id, made);
        let mount = elsewhere.open_image_root(&made).unwrap();
        check(&through(&mount, ""));
        // A base with children stays.
        let options = RemoveOptions {
            force: true,
            prune_parents: true,
        };
        let error = store.remove_image(&image.to_string(), options, &[]);
        assert!(error.unwrap_err().to_string().contains("dependent child"));
    }
}

#[test]
fn names_that_only_containers_have_leave_no_whiteout() {
    let root = Root::new();
    let store = root.open();
    let image = base(&store);
    let id = container(1);
    store.create(&id, &image).unwrap();
    let mount = store.open_root(&id, &image).unwrap();
    std::fs::remove_file(through(&mount, ".dockerenv")).unwrap();
    drop(mount);
    let layer = store.read_upper(Upper::Copy(&store.upper(&id)), Some(&image));
    let layer = layer.unwrap();
    assert_eq!(layer.diff().to_string(), EMPTY);
    assert!(layer.is_empty());
    let request = CommitRequest {
        parent: Some(image),
        ..CommitRequest::default()
    };
    let made = store.commit_layer(layer, request).unwrap();
    assert_eq!(store.resolve(&made.to_string()).unwrap().diffs.len(), 1);
    let history = store.config(&made).unwrap().history.unwrap();
    assert!(history[1].empty_layer);
    assert_eq!(root.names("layers").len(), 1);
}

#[test]
fn a_layer_that_is_not_used_goes_again() {
    let root = Root::new();
    let store = root.open();
    let image = base(&store);
    let id = container(1);
    store.create(&id, &image).unwrap();
    std::fs::write(store.upper(&id).join("file"), b"x").unwrap();
    let before = root.names("layers");
    drop(
        store
            .read_upper(Upper::Copy(&store.upper(&id)), Some(&image))
            .unwrap(),
    );
    assert_eq!(root.names("layers"), before);
    assert!(
        store
            .read_upper(Upper::Copy(Path::new("/nowhere")), None)
            .is_err()
    );
    assert_eq!(root.names("layers"), before);
    // The first layer of all.
    let layer = store
        .read_upper(Upper::Copy(&store.upper(&id)), None)
        .unwrap();
    let made = store.commit_layer(layer, CommitRequest::default()).unwrap();
    let made = store.resolve(&made.to_string()).unwrap();
    assert_eq!((made.parent, made.diffs.len()), (None, 1));
    assert_eq!(
        made.architecture,
        cais_types::oci::Platform::host().architecture
    );
}

#[test]
fn a_full_disk_leaves_nothing_and_taking_needs_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let mount = crate::hostile::SmallDisk::new(directory.path());
    let db = cais_state::Db::open(&directory.path().join("cais.db")).unwrap();
    let store = Store::open(&directory.path().join("data"), db.into()).unwrap();
    let image = base(&store);
    let id = container(1);
    store.create(&id, &image).unwrap();
    std::fs::write(store.upper(&id).join("big"), vec![5; 5 << 20]).unwrap();
    let layers = || {
        std::fs::read_dir(directory.path().join("data/layers"))
            .unwrap()
            .count()
    };
    let before = layers();
    let error = store.read_upper(Upper::Copy(&store.upper(&id)), Some(&image));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("no space left on device"), "{error}");
    assert_eq!(layers(), before);
    let layer = store
        .read_upper(Upper::Take(&store.upper(&id)), Some(&image))
        .unwrap();
    let request = CommitRequest {
        parent: Some(image),
        ..CommitRequest::default()
    };
    let made = store.commit_layer(layer, request).unwrap();
    assert_eq!(store.resolve(&made.to_string()).unwrap().diffs.len(), 2);
    drop((store, mount));
}
