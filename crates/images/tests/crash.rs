//! Killing the process at random points while it loads, makes containers and removes.

use std::process::{Command, Stdio};
use std::time::Duration;

use cais_images::RemoveOptions;
use cais_types::ContainerId;

use crate::kit::{Root, Tar, TestImage, container, load};

const ROOT: &str = "CAIS_IMAGES_CRASH_ROOT";
const ROUNDS: u64 = 25;

fn image() -> TestImage {
    let layer = |name: &str| {
        let mut tar = Tar::default().dir(&format!("{name}/"));
        for number in 0..60 {
            tar = tar.file(&format!("{name}/{number}"), &vec![number; 3000]);
        }
        tar.end()
    };
    TestImage::new(&["crash"], vec![layer("one"), layer("two"), layer("three")])
}

#[test]
#[ignore = "is the process that the test below kills"]
fn victim() {
    let Some(path) = std::env::var_os(ROOT) else {
        return;
    };
    let path = std::path::PathBuf::from(path);
    let db = cais_state::Db::open(&path.join("cais.db")).unwrap();
    let store = cais_images::Store::open(&path, db.into()).unwrap();
    let image = image();
    let archive = image.docker_archive();
    let options = RemoveOptions {
        force: true,
        prune_parents: true,
    };
    for number in (1..=255).cycle() {
        load(&store, &archive).unwrap();
        let id: ContainerId = container(number);
        store.remove(&id).unwrap();
        store.create(&id, &image.id()).unwrap();
        store.remove(&id).unwrap();
        store.remove_image("crash", options, &[]).unwrap();
    }
}

#[test]
fn killed_at_any_point_every_image_is_whole_or_absent() {
    let (root, image) = (Root::new(), image());
    drop(root.open());
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--ignored", "--test-threads=1"])
            .env(ROOT, root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not a wait for anything: the point of the kill shall differ from round to round.
        std::thread::sleep(Duration::from_micros(4000 + round * 1700));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "the victim ended by itself: {status}");
        let store = root.open();
        let temporary = |names: Vec<String>| names.iter().any(|name| name.starts_with("tmp-"));
        assert!(!temporary(root.names("layers")));
        if let Ok(found) = store.resolve("crash") {
            let mut saved = Vec::new();
            store
                .save(&[found.id.to_string()], None, &mut saved)
                .unwrap();
        }
        store.retain(&[]).unwrap();
        assert_eq!(root.names("containers"), Vec::<String>::new());
    }
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    assert_eq!(root.names("layers").len(), 3);
    assert_eq!(root.names("blobs/sha256").len(), 1);
}
