//! Faults that are put into a store on disk: found, told apart, mended.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use cais_images::{Fault, Finding, Store};

use crate::kit::{Root, Tar, TestImage, container, load};

fn image() -> TestImage {
    let layer = |name: &str| {
        let path = format!("{name}/data");
        let tar = Tar::default().dir(&format!("{name}/"));
        tar.file(&path, &vec![7; 100_000])
            .file(&format!("{name}.empty"), b"")
            .end()
    };
    TestImage::new(&["checked:1"], vec![layer("one"), layer("two")])
}

fn check(store: &Store, repair: bool) -> BTreeMap<String, Finding> {
    let found = Mutex::new(BTreeMap::new());
    let checked = store.verify(repair, &|finding| {
        let mut found = found.lock().unwrap();
        found.insert(format!("{:?}", finding.fault), finding);
    });
    assert!(checked.unwrap().bytes > 200_000);
    found.into_inner().unwrap()
}

fn flip_a_bit(file: &Path) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 5).unwrap();
}

#[test]
fn a_whole_store_has_no_findings() {
    let root = Root::new();
    let store = root.open();
    load(&store, &image().docker_archive()).unwrap();
    store.create(&container(1), &image().id()).unwrap();
    assert_eq!(check(&store, false), BTreeMap::new());
    assert_eq!(check(&store, true), BTreeMap::new());
}

#[test]
fn a_flipped_bit_and_a_missing_layer_are_mended_by_the_next_load() {
    for missing in [false, true] {
        let (root, image) = (Root::new(), image());
        let store = root.open();
        load(&store, &image.docker_archive()).unwrap();
        store.create(&container(1), &image.id()).unwrap();
        let top = store.resolve("checked:1").unwrap().top().unwrap();
        let directory = root.path().join("layers").join(top.hex());
        let fault = if missing {
            std::fs::remove_dir_all(&directory).unwrap();
            Fault::MissingLayer
        } else {
            flip_a_bit(&directory.join("diff/two/data"));
            Fault::DamagedLayer
        };
        for repair in [false, true] {
            let found = check(&store, repair);
            let finding = &found[&format!("{fault:?}")];
            assert_eq!((found.len(), finding.fault), (1, fault));
            assert_eq!(finding.images, [image.id()]);
            assert_eq!(finding.name, top.hex());
            assert!(!finding.repaired);
        }
        assert!(!store.has_image(&image.id()));
        // Also after a restart, when the image is still there.
        drop(store);
        let store = root.open();
        assert!(store.resolve("checked:1").is_ok());
        assert!(!store.has_image(&image.id()));
        load(&store, &image.docker_archive()).unwrap();
        assert!(store.has_image(&image.id()));
        assert_eq!(check(&store, false), BTreeMap::new());
        // The container's layer stands on the new files.
        let mount = store.open_root(&container(1), &image.id()).unwrap();
        let data = std::fs::read(crate::kit::through(&mount, "two/data")).unwrap();
        assert_eq!(data, vec![7; 100_000]);
        drop(store);
        let store = root.open();
        assert_eq!(check(&store, false), BTreeMap::new());
        assert_eq!(root.names("layers").len(), 2);
    }
}

#[test]
fn orphans_go_and_damaged_documents_are_written_again() {
    let (root, image) = (Root::new(), image());
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let stranger = "0".repeat(64);
    std::fs::create_dir_all(root.path().join("layers").join(&stranger).join("diff")).unwrap();
    std::fs::create_dir(root.path().join("layers/rubbish")).unwrap();
    std::fs::write(root.path().join("blobs/sha256").join(&stranger), b"x").unwrap();
    flip_a_bit(&root.path().join("blobs/sha256").join(image.id().hex()));
    let kinds = |found: &BTreeMap<String, Finding>| found.keys().cloned().collect::<Vec<_>>();
    let want = ["DamagedBlob", "OrphanBlob", "OrphanLayer"];
    assert_eq!(kinds(&check(&store, false)), want);
    assert_eq!(root.names("layers").len(), 4);
    let found = check(&store, true);
    assert!(found["OrphanLayer"].repaired && found["OrphanBlob"].repaired);
    assert!(!found["DamagedBlob"].repaired);
    assert_eq!(root.names("layers").len(), 2);
    assert_eq!(kinds(&check(&store, true)), ["DamagedBlob"]);
    // Lists go on while a configuration is gone.
    assert_eq!(store.list(true).len(), 1);
    load(&store, &image.docker_archive()).unwrap();
    assert_eq!(check(&store, false), BTreeMap::new());
}

#[test]
fn wrong_sizes_are_set_right_and_marks_without_cause_are_taken_back() {
    let (root, image) = (Root::new(), image());
    drop(load(&root.open(), &image.docker_archive()).unwrap());
    let chain = cais_images::digest(&image.layers[0]).hex();
    {
        let db = cais_state::Db::open(&root.path().join("cais.db")).unwrap();
        let mut record: serde_json::Value = db.get("layer", &chain).unwrap().unwrap();
        record["size"] = 5.into();
        db.put(cais_state::Durability::Process, "layer", &chain, &record)
            .unwrap();
    }
    let store = root.open();
    assert_eq!(check(&store, false)["WrongSize"].name, chain);
    assert!(check(&store, true)["WrongSize"].repaired);
    assert_eq!(check(&store, true), BTreeMap::new());
    store
        .mark_damaged(&format!("sha256:{chain}").parse().unwrap())
        .unwrap();
    assert!(check(&store, true)["DamagedLayer"].repaired);
    assert_eq!(check(&store, true), BTreeMap::new());
    assert!(store.has_image(&image.id()));
}
