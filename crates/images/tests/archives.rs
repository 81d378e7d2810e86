//! Loading, saving and importing.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use cais_images::{ImportRequest, LoadEvent, digest};
use serde_json::Value;

use crate::kit::{Root, Tar, TestImage, gzip, load, load_events};

/// `cap_net_bind_service=ep` as the kernel stores it (capabilities(7), version 2).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn two_layers() -> TestImage {
    let base = Tar::default()
        .dir("bin/")
        .entry("bin/su", b'0', "", 0o4755, b"program")
        .hard_link("bin/su2", "bin/su")
        .symlink("sh", "bin/su")
        .entry("null", b'3', "", 0o666, b"")
        .entry("pipe", b'6', "", 0o600, b"")
        .pax(&[
            ("mtime", b"1600000000.123456789"),
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("uid", b"3000000"),
        ])
        .file("data", &vec![7; 300_000])
        .end();
    let top = Tar::default()
        .file("new", b"1")
        .file(".wh.sh", b"")
        .dir("bin/")
        .file("bin/.wh..wh..opq", b"")
        .file("bin/only", b"x")
        .end();
    TestImage::new(&["demo:one", "demo:two"], vec![base, top])
}

fn blobs(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        blobs.insert(path, bytes);
    }
    blobs
}

#[test]
fn a_docker_archive_is_loaded_and_saved_bit_by_bit() {
    let (root, image) = (Root::new(), two_layers());
    let store = root.open();
    let (loaded, events) = load_events(&store, &image.docker_archive());
    assert_eq!(loaded.unwrap()[0].id, image.id());
    let messages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            LoadEvent::Message(text) => Some(&**text),
            LoadEvent::Layer { .. } => None,
        })
        .collect();
    assert_eq!(
        messages,
        ["Loaded image: demo:one", "Loaded image: demo:two"]
    );
    let layer = digest(&image.layers[0]).hex();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LoadEvent::Layer { id, .. } if *id == layer[..12]))
    );

    let mut saved = Vec::new();
    store.save(&["demo".to_owned()], None, &mut saved).unwrap();
    let blobs = blobs(&saved);
    for layer in &image.layers {
        assert_eq!(&blobs[&crate::kit::blob(&digest(layer))], layer);
    }
    assert_eq!(blobs[&crate::kit::blob(&image.id())], image.config);
    let manifest: Value = serde_json::from_slice(&blobs["manifest.json"]).unwrap();
    assert_eq!(
        manifest[0]["RepoTags"],
        serde_json::json!(["demo:one", "demo:two"])
    );

    // Another store takes what was saved, by either of the two descriptions in it.
    let other = Root::new();
    let second = other.open();
    assert_eq!(load(&second, &saved).unwrap()[0].id, image.id());
    assert_eq!(second.resolve("demo:two").unwrap().id, image.id());
}

#[test]
fn metadata_and_whiteouts_are_unpacked_as_overlay_wants_them() {
    let (root, image) = (Root::new(), two_layers());
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let chain = &store.resolve("demo:one").unwrap().chain;
    let path = |layer: usize, below: &str| {
        let layer = root.path().join("layers").join(chain[layer].hex());
        layer.join("diff").join(below)
    };
    let stat = |path: std::path::PathBuf| std::fs::symlink_metadata(path).unwrap();
    assert_eq!(stat(path(0, "bin/su")).mode() & 0o7777, 0o4755);
    assert_eq!(
        stat(path(0, "bin/su")).ino(),
        stat(path(0, "bin/su2")).ino()
    );
    assert!(stat(path(0, "null")).file_type().is_char_device());
    assert_eq!(stat(path(0, "null")).rdev(), rustix::fs::makedev(1, 3));
    assert!(stat(path(0, "pipe")).file_type().is_fifo());
    let data = stat(path(0, "data"));
    assert_eq!((data.uid(), data.mtime_nsec()), (3_000_000, 123_456_789));
    let mut value = [0; 32];
    let capability = rustix::fs::lgetxattr(path(0, "data"), "security.capability", &mut value);
    assert_eq!(&value[..capability.unwrap()], CAPABILITY);
    let note = rustix::fs::lgetxattr(path(0, "data"), "user.note", &mut value);
    assert_eq!(&value[..note.unwrap()], b"hello");
    let redirect = rustix::fs::lgetxattr(path(0, "data"), "trusted.overlay.redirect", &mut value);
    assert_eq!(redirect.unwrap_err(), rustix::io::Errno::NODATA);
    let whiteout = stat(path(1, "sh"));
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(stat(path(1, "bin")).mtime(), 1_600_000_000);
    let merged = store.open_image_root(&image.id()).unwrap();
    let names = |below: &str| {
        let listed = std::fs::read_dir(crate::kit::through(&merged, below)).unwrap();
        let mut names: Vec<_> = listed.map(|one| one.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["bin", "data", "new", "null", "pipe"]);
    assert_eq!(names("bin"), ["only"]);
}

#[test]
fn oci_layouts_load_with_every_compression_and_compressed_outside() {
    let image = TestImage::new(&["docker.io/demo/oci:1"], two_layers().layers);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+";
    for archive in [
        image.oci_archive(gzip, &format!("{media_type}gzip")),
        image.oci_archive(zstd, &format!("{media_type}zstd")),
        gzip(&image.oci_archive(<[u8]>::to_vec, "application/vnd.oci.image.layer.v1.tar")),
    ] {
        let root = Root::new();
        let store = root.open();
        assert_eq!(load(&store, &archive).unwrap()[0].id, image.id());
        assert_eq!(store.resolve("demo/oci:1").unwrap().id, image.id());
        let mut saved = Vec::new();
        store
            .save(&["demo/oci:1".to_owned()], None, &mut saved)
            .unwrap();
        let layer = crate::kit::blob(&digest(&image.layers[1]));
        assert_eq!(blobs(&saved)[&layer], image.layers[1]);
        // Loaded again, nothing is unpacked.
        let before = root.names("layers");
        let (again, events) = load_events(&store, &archive);
        assert_eq!(again.unwrap()[0].id, image.id());
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(root.names("layers"), before);
    }
}

#[test]
fn a_name_twice_in_one_layer_is_saved_as_it_came() {
    let layer = Tar::default()
        .file("a", b"first")
        .dir("d/")
        .file("d/inner", b"inner one")
        .file("a", b"second, longer")
        .file("d", b"now a file")
        .file("a", b"third")
        .file(".wh.gone", b"")
        .dir("gone/")
        .file("gone/x", b"x")
        .end();
    // Bytes after the end mark belong to the stream as well.
    let layer = [layer, vec![0; 4096], b"trailing".to_vec()].concat();
    let (root, image) = (Root::new(), TestImage::new(&["twice"], vec![layer]));
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let mut saved = Vec::new();
    store
        .save(&[image.id().to_string()], None, &mut saved)
        .unwrap();
    let name = crate::kit::blob(&digest(&image.layers[0]));
    assert_eq!(blobs(&saved)[&name], image.layers[0]);
    let merged = store.open_image_root(&image.id()).unwrap();
    let read = |path| std::fs::read(crate::kit::through(&merged, path)).unwrap();
    assert_eq!(read("a"), b"third");
    assert_eq!(read("d"), b"now a file");
    assert_eq!(read("gone/x"), b"x");
}

#[test]
fn a_layer_is_kept_once_per_place_and_copied_to_a_new_place() {
    let (root, image) = (Root::new(), two_layers());
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let turned = vec![image.layers[1].clone(), image.layers[0].clone()];
    let turned = TestImage::new(&["turned"], turned);
    load(&store, &turned.docker_archive()).unwrap();
    assert_eq!(root.names("layers").len(), 4);
    let grown = Tar::default().file("third", b"3").end();
    let mut layers = image.layers.clone();
    layers.push(grown);
    let grown = TestImage::new(&["grown"], layers);
    load(&store, &grown.docker_archive()).unwrap();
    assert_eq!(root.names("layers").len(), 5);
    let mut saved = Vec::new();
    store
        .save(&["turned".to_owned(), "grown".to_owned()], None, &mut saved)
        .unwrap();
    let other = Root::new();
    assert_eq!(load(&other.open(), &saved).unwrap().len(), 2);
}

#[test]
fn loads_side_by_side_agree() {
    let (root, image) = (Root::new(), two_layers());
    let store = root.open();
    let archive = image.docker_archive();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| load(&store, &archive).unwrap()[0].id))
            .collect();
        for load in loads {
            assert_eq!(load.join().unwrap(), image.id());
        }
    });
    assert_eq!(root.names("layers").len(), 2);
    assert_eq!(root.names("blobs/sha256").len(), 1);
}

#[test]
fn an_import_becomes_an_image_with_its_configuration() {
    let root = Root::new();
    let store = root.open();
    let layer = Tar::default().file("etc/hostname", b"x").end();
    let request = ImportRequest {
        reference: Some("mine:v1".parse().unwrap()),
        message: "from a test".to_owned(),
        config: [("Cmd".to_owned(), serde_json::json!(["/bin/true"]))]
            .into_iter()
            .collect(),
        platform: String::new(),
    };
    let id = store.import(&*gzip(&layer), &request).unwrap();
    assert_eq!(store.resolve("mine:v1").unwrap().id, id);
    let config = store.config(&id).unwrap();
    assert_eq!(config.config.unwrap()["Cmd"][0], "/bin/true");
    assert_eq!(config.rootfs.diff_ids.unwrap(), [digest(&layer)]);
    let history = store.history("mine:v1").unwrap();
    assert_eq!((history.len(), &*history[0].comment), (1, "from a test"));
    assert_eq!(history[0].id, id.to_string());
}

#[test]
fn an_export_reads_back_the_same() {
    let (root, image) = (Root::new(), two_layers());
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let merged = store.open_image_root(&image.id()).unwrap();
    let mut first = Vec::new();
    cais_images::export(std::os::fd::AsFd::as_fd(&merged), &mut first).unwrap();
    let id = store.import(&*first, &ImportRequest::default()).unwrap();
    let again = store.open_image_root(&id).unwrap();
    let mut second = Vec::new();
    cais_images::export(std::os::fd::AsFd::as_fd(&again), &mut second).unwrap();
    assert!(first == second);
    let mut archive = tar::Archive::new(&*first);
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["bin/", "bin/only", "data", "new", "null", "pipe"]);
}
