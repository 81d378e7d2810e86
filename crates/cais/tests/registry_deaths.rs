//! Our registry server killed at every phase of a push: what it answered for is there, what it did not is sent again, and nothing
//! half is left.

use std::path::{Path, PathBuf};

use cais_testkit::{TestDaemon, wait_until};

use crate::CAIS;
use crate::registry_kit::{digests, id, noisy};
use crate::served::{Served, folder};

/// Each point for both blobs of an image, and those of every file for its manifest too.
const POINTS: [&str; 11] = [
    "upload-part:1",
    "upload-part:3",
    "upload-synced:1",
    "upload-synced:2",
    "file-named:1",
    "file-named:2",
    "file-named:3",
    "file-recorded:1",
    "file-recorded:2",
    "file-recorded:3",
    "manifest-synced:1",
];

/// The files of blobs and manifests.
fn files(root: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
    };
    below(folder(root).join("blobs/sha256"))
        .flat_map(below)
        .collect()
}

#[test]
fn killed_at_any_phase_of_a_push_the_registry_is_whole_and_a_repeat_finishes() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let other = TestDaemon::start(CAIS).unwrap();
    for (number, point) in POINTS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut served = Served::start(root, &[&format!("--failpoint={point}")]);
        let address = served.http.address.clone();
        let name = served.name("noise:1");
        noisy(&daemon, &name, number as u64 + 40, 1 << 20);
        std::thread::scope(|scope| {
            let push = scope.spawn(|| daemon.docker(&["push", &name]));
            wait_until("the registry to die", || served.has_ended());
            served = Served::at(root, &address, &[]);
            // It may have been given up, or have gone on with the new server.
            let _either = push.join().unwrap();
        });
        daemon.docker(&["push", &name]).unwrap();
        // Configuration, layer, manifest; what has no record is removed by the new server.
        wait_until("nothing else to be left", || files(root).len() == 3);
        for path in files(root) {
            let hex = cais_images::digest(&std::fs::read(&path).unwrap()).hex();
            assert!(path.ends_with(&hex), "{point}: {}", path.display());
        }
        other.docker(&["pull", &name]).unwrap();
        assert_eq!(id(&other, &name), id(&daemon, &name), "{point}");
        assert_eq!(digests(&other, &name), digests(&daemon, &name), "{point}");
        served.end();
    }
}
