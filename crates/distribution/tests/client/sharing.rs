//! Pulls at the same time share what they fetch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cais_distribution::client::store::PullStore;
use cais_distribution::client::{Client, PulledReference, channel};
use cais_types::Result;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::memory::{MemoryStore, noise};
use super::{client, request};

fn spawn(
    client: &Client,
    name: String,
    store: &Arc<MemoryStore>,
) -> JoinHandle<Result<Vec<PulledReference>>> {
    let (client, store) = (client.clone(), store.clone() as Arc<dyn PullStore>);
    tokio::spawn(async move {
        let (sink, _stream) = channel();
        client.pull(request(&name), store, sink).await
    })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_pulls_fetch_each_layer_and_configuration_once() {
    let fake = Fake::start().await;
    let shared: Vec<Vec<u8>> = (0..5).map(|seed| noise(seed, 50_000)).collect();
    let mut manifests = Vec::new();
    for image in 0..4 {
        let mut layers = shared.clone();
        layers.push(noise(100 + image, 50_000));
        manifests.push(fake.add_image(&format!("t{image}"), &layers));
    }
    let gate = Arc::new(Semaphore::new(0));
    fake.faults(|faults| faults.gate = Some(("/blobs/".into(), gate.clone())));
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let pulls: Vec<_> = (0..20)
        .map(|pull| {
            spawn(
                &client,
                fake.name(&format!("r{}:t{}", pull % 2, pull % 4)),
                &store,
            )
        })
        .collect();
    // Everyone waits for the configuration; when all have it, nobody has a layer yet.
    until("all to have a manifest", || {
        fake.asked("/manifests/").len() == 20
    })
    .await;
    until("four configurations", || fake.asked("/blobs/").len() == 4).await;
    gate.add_permits(4);
    until("layers", || fake.asked("/blobs/").len() >= 12).await;
    gate.add_permits(1000);
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    for manifest in &manifests {
        let asked = fake.asked(&manifest.config.digest.to_string());
        assert_eq!(asked.len(), 1, "{}", manifest.config.digest);
        for layer in &manifest.layers {
            let asked = fake.asked(&layer.digest.to_string());
            assert_eq!(asked.len(), 1, "{}", layer.digest);
        }
    }
    assert_eq!(store.unpacked.load(Ordering::SeqCst), 9);
    for pull in 0..20 {
        let name = fake.name(&format!("r{}:t{}", pull % 2, pull % 4));
        assert_eq!(store.layers_of(&name).len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_goes_on_when_the_first_leaves() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &[noise(1, 200_000)]);
    let blob = manifest.layers[0].digest.to_string();
    let gate = Arc::new(Semaphore::new(0));
    fake.faults(|faults| faults.gate = Some((blob.clone(), gate.clone())));
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let first = spawn(&client, fake.name("a:1"), &store);
    until("the first asks for the layer", || {
        !fake.asked(&blob).is_empty()
    })
    .await;
    let second = spawn(&client, fake.name("a:1"), &store);
    until("the second asks for the manifest", || {
        fake.asked("/manifests/").len() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(100);
    second.await.unwrap().unwrap();
    assert_eq!(fake.asked(&blob).len(), 1, "one transfer, for both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_takes_over_when_the_first_is_refused() {
    let good = Fake::start().await;
    let bad = Fake::start().await;
    let layers = [noise(1, 200_000)];
    let manifest = good.add_image("1", &layers);
    bad.add_image("1", &layers);
    let blob = manifest.layers[0].digest.to_string();
    bad.state().blobs.remove(&blob);
    let gate = Arc::new(Semaphore::new(0));
    bad.faults(|faults| faults.gate = Some((blob.clone(), gate.clone())));
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let first = spawn(&client, bad.name("a:1"), &store);
    until("the first asks for the layer", || {
        !bad.asked(&blob).is_empty()
    })
    .await;
    let second = spawn(&client, good.name("a:1"), &store);
    until("the second has the configuration", || {
        good.asked("/blobs/").len() == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(good.asked(&blob).is_empty(), "one fetches at a time");
    gate.add_permits(100);
    second.await.unwrap().unwrap();
    assert_eq!(good.asked(&blob).len(), 1);
    // The first gets the layer too: it is the same one, whoever brought it.
    first.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_pull_stops_its_streams() {
    let fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 2_000_000)]);
    fake.faults(|faults| faults.drip = Some(Duration::from_millis(1)));
    let store = Arc::new(MemoryStore::default());
    let pull = spawn(&client(), fake.name("a:1"), &store);
    until("bytes", || fake.state().sent > 50).await;
    pull.abort();
    let _ = pull.await;
    until("silence", || {
        let before = fake.state().sent;
        std::thread::sleep(Duration::from_millis(50));
        fake.state().sent == before
    })
    .await;
    assert_eq!(store.unpacked.load(Ordering::SeqCst), 0);
}
