//! Images that go by themselves.

use cais_images::{GcPolicy, ImageUser};
use cais_types::Digest;
use serde_json::Value;

use crate::hostile::SmallDisk;
use crate::kit::{Tar, TestImage, container, load};

fn image(name: &str, size: usize) -> TestImage {
    let byte = name.as_bytes()[0];
    let layer = Tar::default().file(name, &vec![byte; size]).end();
    TestImage::new(&[&format!("{name}:1")], vec![layer])
}

fn names(store: &cais_images::Store) -> Vec<String> {
    let mut names: Vec<_> = store.list(true).iter().flat_map(|one| one.tags()).collect();
    names.sort();
    names
}

#[test]
fn old_images_go_unless_they_are_used_or_kept() {
    let root = crate::kit::Root::new();
    let store = root.open();
    for name in ["used", "kept", "old"] {
        load(&store, &image(name, 10).docker_archive()).unwrap();
    }
    let users = [ImageUser {
        container: container(1),
        image: image("used", 10).id(),
        running: false,
    }];
    let keep = |names: &[String]| names.iter().any(|name| name == "kept:1");
    let collect = |max_age| {
        let policy = GcPolicy {
            max_age,
            watermarks: None,
        };
        store.collect_garbage(&policy, &users, keep).unwrap()
    };
    assert!(collect(None).removed.is_empty());
    assert!(collect(Some(3600)).removed.is_empty());
    // Older than an age that nothing can be younger than.
    let pruned = collect(Some(-5));
    assert_eq!((pruned.removed.len(), pruned.freed), (3, 10));
    assert_eq!(names(&store), ["kept:1", "used:1"]);
}

/// Says that an image got its name and was used at these times.
fn used_at(db: &cais_state::Db, image: &Digest, time: &str) {
    let durability = cais_state::Durability::Process;
    let mut record: Value = db.get("image", &image.hex()).unwrap().unwrap();
    record["tagged"] = time.into();
    db.put(durability, "image", &image.hex(), &record).unwrap();
    db.delete(durability, "image-used", &image.hex()).unwrap();
}

#[test]
fn a_full_disk_loses_the_least_recently_used_down_to_the_low_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let mount = SmallDisk::new(directory.path());
    let open = || {
        let db =
            std::sync::Arc::new(cais_state::Db::open(&directory.path().join("cais.db")).unwrap());
        let store = cais_images::Store::open(&directory.path().join("data"), db.clone()).unwrap();
        (db, store)
    };
    {
        let (db, store) = open();
        for (name, time) in [
            ("a", "2024-03-01T00:00:00Z"),
            ("b", "2024-01-01T00:00:00Z"),
            ("c", "2024-02-01T00:00:00Z"),
        ] {
            let image = image(name, 1 << 20);
            load(&store, &image.docker_archive()).unwrap();
            used_at(&db, &image.id(), time);
        }
    }
    let (_db, store) = open();
    let used = || {
        let disk = rustix::fs::statvfs(directory.path()).unwrap();
        u8::try_from((disk.f_blocks - disk.f_bfree) * 100 / disk.f_blocks).unwrap()
    };
    let policy = |high, low| GcPolicy {
        max_age: None,
        watermarks: Some((high, low)),
    };
    let collect = |policy| store.collect_garbage(&policy, &[], |_| false).unwrap();
    let now = used();
    assert!(collect(policy(now + 5, 1)).removed.is_empty());
    // A container on it makes an image the most recent one.
    store
        .create(&container(1), &image("b", 1 << 20).id())
        .unwrap();
    store.remove(&container(1)).unwrap();
    let pruned = collect(policy(now, now - 3));
    assert_eq!(pruned.freed, 1 << 20);
    assert_eq!(names(&store), ["a:1", "b:1"]);
    // What was just used stays even then.
    collect(policy(1, 0));
    assert_eq!(names(&store), ["b:1"]);
    drop((store, _db, mount));
}
