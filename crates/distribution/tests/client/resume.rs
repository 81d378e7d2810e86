//! Cut connections, slow ones, and what an earlier pull left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cais_distribution::client::store::PullStore;
use cais_distribution::client::{Client, ClientConfig, channel};
use cais_types::oci::Manifest;

use super::fake::{Canned, Fake};
use super::memory::{MemoryStore, noise};
use super::{config, pull, request};

const SIZE: usize = 400_000;

fn keeping(directory: &Path) -> Client {
    Client::new(ClientConfig {
        partial_dir: Some(directory.to_owned()),
        ..config()
    })
    .unwrap()
}

async fn with_image() -> (Fake, Manifest) {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &[noise(1, SIZE)]);
    (fake, manifest)
}

fn partial(directory: &Path, manifest: &Manifest) -> std::path::PathBuf {
    directory.join(manifest.layers[0].digest.hex())
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Waits for the partials of what was pulled to be deleted.
async fn emptied(directory: &Path) {
    for _ in 0..2000 {
        if entries(directory) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("something is kept of what is there");
}

#[tokio::test]
async fn a_connection_cut_every_n_bytes_is_taken_up_where_it_was_cut() {
    let (fake, manifest) = with_image().await;
    let size = manifest.layers[0].size as usize;
    for cut in [8192, 50_000, size - 1] {
        fake.state().seen.clear();
        fake.state().sent = 0;
        fake.faults(|faults| faults.cut_every = Some(cut));
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        pull(&keeping(dir.path()), &fake.name("a:1"), &store)
            .await
            .unwrap();
        assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
        emptied(dir.path()).await;
        let asked = fake.asked(&manifest.layers[0].digest.to_string());
        assert!(asked.len() >= size / cut, "{cut}: {}", asked.len());
        assert!(asked.iter().skip(1).all(|seen| seen.range.is_some()));
        // What a cut loses is what was under way in the sockets.
        assert!(fake.state().sent < size * 2, "{cut}: {}", fake.state().sent);
    }
}

#[tokio::test]
async fn a_registry_without_ranges_starts_over_and_ends_when_it_gets_nowhere() {
    let (fake, _) = with_image().await;
    fake.faults(|faults| {
        faults.ignore_range = true;
        faults.cut_every = Some(100_000);
    });
    let dir = tempfile::tempdir().unwrap();
    let quick = Client::new(ClientConfig {
        attempts: 2,
        partial_dir: Some(dir.path().to_owned()),
        ..config()
    })
    .unwrap();
    let store = Arc::new(MemoryStore::default());
    let error = pull(&quick, &fake.name("a:1"), &store).await.unwrap_err();
    assert!(error.message().contains("unexpected EOF"), "{error}");
    assert_eq!(entries(dir.path()), 1, "what came is kept");
    fake.faults(|faults| faults.cut_every = None);
    pull(&quick, &fake.name("a:1"), &store).await.unwrap();
    assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
    emptied(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_was_stopped_is_taken_up_by_the_next() {
    let (fake, manifest) = with_image().await;
    fake.faults(|faults| faults.drip = Some(Duration::from_millis(1)));
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let (client, name) = (keeping(dir.path()), fake.name("a:1"));
    let going = {
        let store = store.clone() as Arc<dyn PullStore>;
        let (client, name) = (client.clone(), name.clone());
        tokio::spawn(async move {
            let (sink, _stream) = channel();
            client.pull(request(&name), store, sink).await
        })
    };
    // The configuration drips too.
    while fake.state().sent < 1500 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    going.abort();
    let _ = going.await;
    fake.faults(|faults| faults.drip = None);
    fake.state().seen.clear();
    pull(&client, &name, &store).await.unwrap();
    let asked = fake.asked(&manifest.layers[0].digest.to_string());
    let range = asked[0].range.clone().expect("goes on where it was");
    let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
    assert!(from > 500, "{range}");
    assert_eq!(store.layers_of(&name), [noise(1, SIZE)]);
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_used() {
    let (fake, manifest) = with_image().await;
    let layer = &manifest.layers[0];
    let blob = fake.state().blobs[&layer.digest.to_string()].clone();
    for kept in [1, 100_000, blob.len()] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(partial(dir.path(), &manifest), &blob[..kept]).unwrap();
        fake.state().seen.clear();
        let store = Arc::new(MemoryStore::default());
        pull(&keeping(dir.path()), &fake.name("a:1"), &store)
            .await
            .unwrap();
        assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
        let asked = fake.asked(&layer.digest.to_string());
        match kept == blob.len() {
            true => assert!(asked.is_empty(), "all of it was there"),
            false => assert_eq!(asked[0].range, Some(format!("bytes={kept}-"))),
        }
        emptied(dir.path()).await;
    }
}

#[tokio::test]
async fn what_a_power_cut_spoiled_is_fetched_anew() {
    let (fake, manifest) = with_image().await;
    let layer = &manifest.layers[0];
    for kept in [
        vec![0; 100_000],
        vec![0; layer.size as usize],
        vec![1; layer.size as usize + 9],
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(partial(dir.path(), &manifest), kept).unwrap();
        let store = Arc::new(MemoryStore::default());
        pull(&keeping(dir.path()), &fake.name("a:1"), &store)
            .await
            .unwrap();
        assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
        emptied(dir.path()).await;
    }
}

#[tokio::test]
async fn a_partial_that_cannot_be_kept_does_no_harm() {
    let (fake, _) = with_image().await;
    let store = Arc::new(MemoryStore::default());
    pull(
        &keeping(Path::new("/proc/nowhere")),
        &fake.name("a:1"),
        &store,
    )
    .await
    .unwrap();
    assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
    // A file system without room for it.
    std::fs::write("/dev/full", "x").unwrap_err();
    let dir = tempfile::tempdir().unwrap();
    let (fake, manifest) = with_image().await;
    std::os::unix::fs::symlink("/dev/full", partial(dir.path(), &manifest)).unwrap();
    let store = Arc::new(MemoryStore::default());
    pull(&keeping(dir.path()), &fake.name("a:1"), &store)
        .await
        .unwrap();
    assert_eq!(store.layers_of(&fake.name("a:1")), [noise(1, SIZE)]);
}

#[tokio::test]
async fn a_store_that_fails_keeps_what_was_fetched() {
    let (fake, manifest) = with_image().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    *store.refuse_unpack.lock().unwrap() = Some("no space left on device".into());
    let client = keeping(dir.path());
    let error = pull(&client, &fake.name("a:1"), &store).await.unwrap_err();
    assert_eq!(error.message(), "no space left on device");
    *store.refuse_unpack.lock().unwrap() = None;
    fake.state().seen.clear();
    pull(&client, &fake.name("a:1"), &store).await.unwrap();
    assert!(
        fake.asked(&manifest.layers[0].digest.to_string())
            .is_empty()
    );
}

#[tokio::test]
async fn busy_registries_are_asked_again_when_they_say() {
    let (fake, _) = with_image().await;
    let wait = |status, headers| Canned {
        status,
        headers,
        ..Canned::default()
    };
    fake.faults(|faults| {
        faults.next.push_back(wait(503, vec![]));
        faults
            .next
            .push_back(wait(429, vec![("retry-after", "1".into())]));
        faults
            .next
            .push_back(wait(502, vec![("retry-after", "0".into())]));
    });
    let started = std::time::Instant::now();
    let store = Arc::new(MemoryStore::default());
    pull(&super::client(), &fake.name("a:1"), &store)
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(fake.asked("/manifests/1").len(), 4);

    fake.faults(|faults| {
        let long = vec![("retry-after", "3600".into())];
        faults.next.push_back(wait(429, long));
    });
    let error = pull(&super::client(), &fake.name("a:1"), &store)
        .await
        .unwrap_err();
    assert_eq!(error.message(), "toomanyrequests: too many requests");
}

#[tokio::test]
async fn a_registry_that_drips_is_given_up() {
    let (fake, _) = with_image().await;
    fake.faults(|faults| faults.drip = Some(Duration::from_millis(20)));
    let hasty = Client::new(ClientConfig {
        read_timeout: Duration::from_millis(300),
        attempts: 2,
        ..config()
    })
    .unwrap();
    let store = Arc::new(MemoryStore::default());
    let error = pull(&hasty, &fake.name("a:1"), &store).await.unwrap_err();
    assert!(error.message().contains("Client.Timeout"), "{error}");

    // The configuration comes at once, the layer drips.
    let (fake, manifest) = with_image().await;
    let hasty = hasty.clone();
    fake.faults(|faults| faults.drip = None);
    let config = manifest.config.digest.to_string();
    let body = fake.state().blobs[&config].clone();
    let canned = Canned {
        status: 200,
        body,
        ..Canned::default()
    };
    let path = format!("/v2/a/blobs/{config}");
    fake.faults(|faults| {
        faults.always.push((path, canned));
        faults.drip = Some(Duration::from_millis(20));
    });
    let error = pull(&hasty, &fake.name("a:1"), &store).await.unwrap_err();
    assert!(error.message().contains("too slow"), "{error}");
}
