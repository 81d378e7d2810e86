//! What a power cut leaves, made by hand: a record of another start of the machine, and files that never reached the disk.

use serde_json::Value;

use crate::kit::{Root, Tar, TestImage, load};

fn image(name: &str, text: &str) -> TestImage {
    let base = Tar::default().file("base", b"base").end();
    let top = Tar::default().file("top", text.as_bytes()).end();
    TestImage::new(&[name], vec![base, top])
}

/// Says of every image that is not known to be on the disk that it was written before the machine was started.
fn cut_power(root: &Root, records: &[(String, Value)]) {
    let db = cais_state::Db::open(&root.path().join("cais.db")).unwrap();
    for (key, record) in records {
        let mut record = record.clone();
        record["boot"] = "before".into();
        db.put(cais_state::Durability::Process, "unsynced", key, &record)
            .unwrap();
    }
}

/// The records as the load leaves them, before the disk has caught up.
fn unsynced(images: &[&TestImage]) -> (Root, Vec<(String, Value)>) {
    let root = Root::new();
    let mut records = Vec::new();
    for image in images {
        let store = root.open();
        load(&store, &image.docker_archive()).unwrap();
        let top = store
            .resolve(&image.id().to_string())
            .unwrap()
            .top()
            .unwrap();
        let key = format!("{}-1", image.id().hex());
        let base = cais_images::digest(&image.layers[0]);
        records.push((
            key,
            serde_json::json!({
                "image": image.id(), "boot": "now", "layers": [base, top],
                "names": [[format!("docker.io/library/{}", image.tags[0]), null]],
            }),
        ));
    }
    (root, records)
}

#[test]
fn the_disk_catches_up_and_the_record_goes() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    let db = std::sync::Arc::new(cais_state::Db::open(&root.path().join("cais.db")).unwrap());
    let store = cais_images::Store::open(&root.path(), db.clone()).unwrap();
    load(&store, &image("a:1", "a").docker_archive()).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !db.all::<Value>("unsynced").unwrap().is_empty() {
        assert!(std::time::Instant::now() < end, "the disk never caught up");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn after_a_power_cut_each_image_is_whole_or_absent() {
    let (whole, torn) = (image("whole:1", "whole"), image("torn:1", "torn"));
    let (root, records) = unsynced(&[&whole, &torn]);
    cut_power(&root, &records);
    let top = {
        let diffs = [
            cais_images::digest(&torn.layers[0]),
            cais_images::digest(&torn.layers[1]),
        ];
        cais_images::digest(format!("{} {}", diffs[0], diffs[1]).as_bytes())
    };
    // Delayed allocation: the name is there, the contents are not.
    let file = root.path().join("layers").join(top.hex()).join("diff/top");
    std::fs::write(&file, b"\0\0\0\0").unwrap();
    let store = root.open();
    assert!(store.has_image(&whole.id()));
    assert!(store.resolve("torn:1").is_err());
    assert!(store.resolve(&torn.id().to_string()).is_err());
    assert_eq!(root.names("layers").len(), 2);
    assert_eq!(root.names("blobs/sha256").len(), 1);
    load(&store, &torn.docker_archive()).unwrap();
    assert!(store.has_image(&torn.id()));
}

#[test]
fn a_name_goes_back_to_the_image_that_had_it() {
    let (old, new) = (image("app:1", "old"), image("app:1", "new"));
    let (root, mut records) = unsynced(&[&old, &new]);
    records.remove(0);
    records[0].1["names"][0][1] = old.id().to_string().into();
    cut_power(&root, &records);
    std::fs::remove_file(root.path().join("blobs/sha256").join(new.id().hex())).unwrap();
    let store = root.open();
    assert_eq!(store.resolve("app:1").unwrap().id, old.id());
    assert!(store.has_image(&old.id()));
}
