//! Pulls that go well: manifests, indexes, tags, digests, what the user sees.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cais_distribution::client::{Event, PullRequest, Step};
use cais_types::oci::{Descriptor, Index, media_type};

use super::fake::Fake;
use super::memory::{MemoryStore, noise};
use super::{client, pull, pull_telling, request, words};

fn layers() -> Vec<Vec<u8>> {
    vec![noise(1, 300_000), noise(2, 10), noise(3, 70_000)]
}

#[tokio::test]
async fn a_pull_brings_the_image_and_tells_it_as_docker_does() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &layers());
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let name = fake.name("a/b:1");
    let (pulled, events) = pull_telling(&client, request(&name), &store).await;
    let pulled = pulled.unwrap();
    assert_eq!(store.layers_of(&name), layers());
    assert_eq!(pulled[0].image.id, manifest.config.digest);
    assert!(
        store
            .id_of(&format!("{}@{}", fake.name("a/b"), pulled[0].digest))
            .is_some()
    );

    let said = words(&events);
    let ids: Vec<String> = manifest.layers.iter().map(|l| l.digest.short()).collect();
    assert_eq!(said[0], "1: Pulling from a/b");
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(said[at + 1], format!("{id}: Pulling fs layer"));
        let own: Vec<&str> = said
            .iter()
            .filter_map(|word| word.strip_prefix(&format!("{id}: ")))
            .collect();
        let end = [
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ];
        assert_eq!(own[own.len() - 4..], end, "{own:?}");
    }
    assert_eq!(
        said[said.len() - 2..],
        [
            format!("Digest: {}", pulled[0].digest),
            format!("Status: Downloaded newer image for {name}")
        ]
    );
}

#[tokio::test]
async fn what_the_store_has_is_not_fetched_again() {
    let fake = Fake::start().await;
    fake.add_image("1", &layers());
    let mut more = layers();
    more.push(noise(9, 5000));
    let newer = fake.add_image("2", &more);
    let store = Arc::new(MemoryStore::default());
    let client = client();
    pull(&client, &fake.name("a:1"), &store).await.unwrap();
    let blobs = fake.asked("/blobs/").len();

    let (again, events) = pull_telling(&client, request(&fake.name("a:1")), &store).await;
    assert!(again.unwrap()[0].image.unchanged);
    let last = words(&events).pop().unwrap();
    assert_eq!(
        last,
        format!("Status: Image is up to date for {}", fake.name("a:1"))
    );
    assert_eq!(fake.asked("/blobs/").len(), blobs, "nothing is fetched");

    let (pulled, events) = pull_telling(&client, request(&fake.name("a:2")), &store).await;
    pulled.unwrap();
    let exist = words(&events)
        .iter()
        .filter(|w| w.ends_with(": Already exists"))
        .count();
    assert_eq!(exist, 3);
    assert_eq!(
        fake.asked("/blobs/").len(),
        blobs + 2,
        "configuration and one layer"
    );
    assert_eq!(fake.asked(&newer.layers[3].digest.to_string()).len(), 1);
}

#[tokio::test]
async fn an_index_gives_the_image_of_the_platform() {
    let fake = Fake::start().await;
    let mut entries = Vec::new();
    for (architecture, seed) in [("arm64", 5), ("amd64", 6)] {
        let manifest = fake.add_image_for("x", &[noise(seed, 1000)], architecture);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = fake.add_manifest(architecture, media_type::MANIFEST, &bytes);
        let mut entry = Descriptor::new(media_type::MANIFEST, digest, bytes.len() as u64);
        entry.platform = Some(format!("linux/{architecture}").parse().unwrap());
        entries.push(entry);
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        artifact_type: None,
        manifests: entries,
        subject: None,
        annotations: None,
    };
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = fake.add_manifest("multi", media_type::INDEX, &bytes);
    let client = client();
    for (platform, seed) in [
        ("linux/arm64", 5),
        ("linux/amd64", 6),
        ("linux/amd64/v3", 6),
    ] {
        let store = Arc::new(MemoryStore::default());
        let asked = PullRequest {
            platform: Some(platform.parse().unwrap()),
            ..request(&fake.name("m:multi"))
        };
        let pulled = pull_telling(&client, asked, &store).await.0.unwrap();
        assert_eq!(pulled[0].digest, digest, "the digest of the index");
        assert_eq!(store.layers_of(&fake.name("m:multi")), [noise(seed, 1000)]);
    }
    let asked = PullRequest {
        platform: Some("linux/s390x".parse().unwrap()),
        ..request(&fake.name("m:multi"))
    };
    let store = Arc::new(MemoryStore::default());
    let error = pull_telling(&client, asked, &store).await.0.unwrap_err();
    assert_eq!(
        error.message(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );

    let inspected = client
        .inspect(&fake.name("m:multi").parse().unwrap(), None)
        .await
        .unwrap();
    assert_eq!(inspected.descriptor.digest, digest);
    assert_eq!(inspected.descriptor.media_type, media_type::INDEX);
    assert_eq!(inspected.platforms.len(), 2);
}

#[tokio::test]
async fn an_image_of_another_platform_comes_with_a_warning() {
    let fake = Fake::start().await;
    fake.add_image_for("1", &[noise(1, 100)], "arm64");
    let store = Arc::new(MemoryStore::default());
    let (pulled, events) = pull_telling(&client(), request(&fake.name("a:1")), &store).await;
    pulled.unwrap();
    let warning = format!(
        "WARNING: image with reference {} was found but its platform (linux/arm64) does not match the specified platform (linux/amd64)",
        fake.name("a:1")
    );
    assert!(words(&events).contains(&warning), "{events:?}");
}

#[tokio::test]
async fn by_digest_only_the_digest_is_a_name() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &layers());
    let digest = super::digest(&serde_json::to_vec(&manifest).unwrap());
    let store = Arc::new(MemoryStore::default());
    let name = format!("{}@{digest}", fake.name("a"));
    let (pulled, events) = pull_telling(&client(), request(&name), &store).await;
    assert_eq!(pulled.unwrap()[0].digest, digest);
    assert_eq!(words(&events)[0], format!("{digest}: Pulling from a"));
    let names: Vec<String> = store.content().names.keys().cloned().collect();
    assert_eq!(names, [name]);
}

#[tokio::test]
async fn all_tags_are_pulled() {
    let fake = Fake::start().await;
    fake.add_image("one", &[noise(1, 100)]);
    fake.add_image("two", &[noise(2, 100)]);
    let store = Arc::new(MemoryStore::default());
    let asked = PullRequest {
        all_tags: true,
        ..request(&fake.name("a"))
    };
    let (pulled, events) = pull_telling(&client(), asked, &store).await;
    assert_eq!(pulled.unwrap().len(), 2);
    assert!(store.id_of(&fake.name("a:one")).is_some());
    assert!(store.id_of(&fake.name("a:two")).is_some());
    let last = words(&events).pop().unwrap();
    assert_eq!(
        last,
        format!("Status: Downloaded newer image for {}", fake.name("a"))
    );
}

#[tokio::test]
async fn the_same_layer_twice_is_fetched_once() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &[noise(1, 1000), noise(2, 1000), noise(1, 1000)]);
    let store = Arc::new(MemoryStore::default());
    pull(&client(), &fake.name("a:1"), &store).await.unwrap();
    assert_eq!(store.unpacked.load(Ordering::SeqCst), 2);
    assert_eq!(fake.asked(&manifest.layers[0].digest.to_string()).len(), 1);
    assert_eq!(store.layers_of(&fake.name("a:1")).len(), 3);
}

#[tokio::test]
async fn bars_move_to_the_end_and_not_too_often() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &[noise(1, 3_000_000)]);
    let store = Arc::new(MemoryStore::default());
    let started = std::time::Instant::now();
    let (pulled, events) = pull_telling(&client(), request(&fake.name("a:1")), &store).await;
    pulled.unwrap();
    let bars: Vec<(u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Layer {
                step: Step::Downloading,
                current,
                total,
                ..
            } => Some((*current, *total)),
            _ => None,
        })
        .collect();
    let most = started.elapsed().as_millis() / 100 + 2;
    assert!(bars.len() as u128 <= most, "{bars:?}");
    assert!(bars.iter().all(|(current, total)| current <= total));
    assert!(bars.is_sorted());
    assert!(
        bars.iter()
            .all(|(_, total)| *total == manifest.layers[0].size)
    );
}
