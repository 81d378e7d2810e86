//! Pushes to Debian's docker-registry, and back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cais_distribution::client::store::PushStore;
use cais_distribution::client::{
    Client, CopyAuth, Credentials, Event, PushRequest, PushedReference, RawManifest, channel,
};
use cais_types::{Digest, Result};

use super::fake::Fake;
use super::memory::{MemoryStore, noise};
use super::peer::{Options, Registry};
use super::{client, pull, pull_telling, reference, with_auth, words};

fn layers() -> Vec<Vec<u8>> {
    vec![
        noise(1, 700_000),
        noise(2, 10),
        noise(1, 700_000),
        noise(3, 70_000),
    ]
}

async fn push_as(
    client: &Client,
    text: &str,
    store: &Arc<MemoryStore>,
    auth: Option<Credentials>,
) -> (Result<Vec<PushedReference>>, Vec<Event>) {
    let (sink, mut stream) = channel();
    let store: Arc<dyn PushStore> = store.clone();
    let all_tags = !text.rsplit('/').next().unwrap().contains(':');
    let request = PushRequest {
        reference: reference(text),
        all_tags,
        auth,
    };
    let events = async {
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event);
        }
        events
    };
    tokio::join!(client.push(request, store, sink), events)
}

async fn push(client: &Client, text: &str, store: &Arc<MemoryStore>) -> (Digest, Vec<String>) {
    let (pushed, events) = push_as(client, text, store, None).await;
    (pushed.unwrap()[0].digest, words(&events))
}

fn written(store: &MemoryStore) -> usize {
    store.written.swap(0, Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_what_is_pulled() {
    let registry = Registry::start(&Options::default());
    let store = Arc::new(MemoryStore::default());
    let name = registry.name("team/app:1");
    let id = store.build(&name, &layers());
    let client = client();
    let (digest, said) = push(&client, &name, &store).await;
    assert_eq!(written(&store), 3, "the same layer twice is sent once");
    assert_eq!(
        said[0],
        format!(
            "The push refers to repository [{}]",
            registry.name("team/app")
        )
    );
    let own = super::digest(&layers()[0]).short();
    assert!(said.contains(&format!("{own}: Preparing")), "{said:?}");
    assert!(said.contains(&format!("{own}: Pushed")), "{said:?}");
    let line = said
        .iter()
        .find(|word| word.starts_with("1: digest: "))
        .unwrap();
    assert!(
        line.starts_with(&format!("1: digest: {digest} size: ")),
        "{line}"
    );
    assert!(
        store
            .id_of(&format!("{}@{digest}", registry.name("team/app")))
            .is_some()
    );

    let other = Arc::new(MemoryStore::default());
    let pulled = pull(&client, &name, &other).await.unwrap();
    assert_eq!((pulled[0].digest, pulled[0].image.id), (digest, id));
    assert_eq!(other.layers_of(&name), layers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_push_compresses_nothing_and_another_repository_mounts() {
    let registry = Registry::start(&Options::default());
    let store = Arc::new(MemoryStore::default());
    let client = client();
    for tag in ["a/one:1", "b/two:1"] {
        store.build(&registry.name(tag), &layers());
    }
    let (digest, _) = push(&client, &registry.name("a/one:1"), &store).await;
    assert_eq!(written(&store), 3);
    let (again, said) = push(&client, &registry.name("a/one:1"), &store).await;
    assert_eq!((again, written(&store)), (digest, 0));
    let exists = |word: &&String| word.ends_with(": Layer already exists");
    assert_eq!(said.iter().filter(exists).count(), 3, "{said:?}");
    let (other, said) = push(&client, &registry.name("b/two:1"), &store).await;
    assert_eq!((other, written(&store)), (digest, 0));
    let mounted = |word: &&String| word.ends_with(": Mounted from a/one");
    assert_eq!(said.iter().filter(mounted).count(), 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulled_image_keeps_its_digest_where_its_blobs_are() {
    let registry = Registry::start(&Options::default());
    let client = client();
    let origin = Arc::new(MemoryStore::default());
    origin.build(&registry.name("a:1"), &layers());
    let (digest, _) = push(&client, &registry.name("a:1"), &origin).await;

    // What was pulled cannot be compressed again to the same bytes, and need not be.
    let store = Arc::new(MemoryStore::default());
    let pulled = pull(&client, &registry.name("a:1"), &store).await.unwrap();
    let id = pulled[0].image.id;
    store.content().names.insert(registry.name("a:2"), id);
    let (again, _) = push(&client, &registry.name("a:2"), &store).await;
    assert_eq!((again, written(&store)), (digest, 0));

    // A registry that does not have them gets other bytes and a manifest for them.
    let other = Registry::start(&Options::default());
    store.content().names.insert(other.name("a:1"), id);
    push(&client, &other.name("a:1"), &store).await;
    assert_eq!(written(&store), 3);
    let back = Arc::new(MemoryStore::default());
    let pulled = pull(&client, &other.name("a:1"), &back).await.unwrap();
    assert_eq!(pulled[0].image.id, id);
    assert_eq!(back.layers_of(&other.name("a:1")), layers());

    // One that can be made again is made again, and keeps its digest.
    let third = Registry::start(&Options::default());
    origin.content().names.insert(third.name("a:1"), id);
    let manifest = store.content().images[&id].manifest.clone();
    origin.content().images.get_mut(&id).unwrap().manifest = manifest;
    written(&origin);
    let (same, _) = push(&client, &third.name("a:1"), &origin).await;
    assert_eq!((same, written(&origin)), (digest, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tags_are_pushed_and_pulled() {
    let registry = Registry::start(&Options::default());
    let store = Arc::new(MemoryStore::default());
    for tag in ["1", "2"] {
        store.build(
            &registry.name(&format!("many:{tag}")),
            &[noise(tag.len() as u64, 100)],
        );
    }
    let client = client();
    let (pushed, _) = push_as(&client, &registry.name("many"), &store, None).await;
    assert_eq!(pushed.unwrap().len(), 2);
    let back = Arc::new(MemoryStore::default());
    let asked = super::PullRequest {
        all_tags: true,
        ..super::request(&registry.name("many"))
    };
    assert_eq!(
        pull_telling(&client, asked, &back).await.0.unwrap().len(),
        2
    );
    let (nothing, _) = push_as(&client, &registry.name("none"), &store, None).await;
    assert_eq!(
        nothing.unwrap_err().message(),
        format!(
            "An image does not exist locally with the tag: {}",
            registry.name("none")
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn htpasswd_and_tls_of_a_real_registry() {
    // testuser:testpass
    let line = bcrypt::hash_with_result("testpass", 4)
        .unwrap()
        .format_for_version(bcrypt::Version::TwoY);
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let registry = Registry::start(&Options {
        htpasswd: Some(format!("testuser:{line}\n")),
        tls: Some((key.cert.pem(), key.signing_key.serialize_pem())),
    });
    let store = Arc::new(MemoryStore::default());
    let name = registry.name("a:1");
    store.build(&name, &layers());
    let client = client();
    let right = Credentials::basic("testuser", "testpass");
    let wrong = Credentials::basic("testuser", "wrong");
    assert!(
        client
            .login(&registry.authority, wrong.clone())
            .await
            .is_err()
    );
    client
        .login(&registry.authority, right.clone())
        .await
        .unwrap();
    let error = push_as(&client, &name, &store, None).await.0.unwrap_err();
    assert_eq!(error.message(), "no basic auth credentials");
    let error = push_as(&client, &name, &store, Some(wrong))
        .await
        .0
        .unwrap_err();
    assert_eq!(error.message(), "unauthorized: authentication required");
    push_as(&client, &name, &store, Some(right.clone()))
        .await
        .0
        .unwrap();
    let back = Arc::new(MemoryStore::default());
    pull(&client, &name, &back).await.unwrap_err();
    let pulled = pull_telling(&client, with_auth(&name, right), &back)
        .await
        .0;
    pulled.unwrap();
    assert_eq!(back.layers_of(&name), layers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_are_read_and_written_raw_and_blobs_copied() {
    let registry = Registry::start(&Options::default());
    let other = Registry::start(&Options::default());
    let store = Arc::new(MemoryStore::default());
    store.build(&registry.name("a:1"), &layers());
    let client = client();
    let (digest, _) = push(&client, &registry.name("a:1"), &store).await;
    let from = reference(&registry.name("a:1"));
    let raw: RawManifest = client.get_manifest(&from, None).await.unwrap();
    assert_eq!(raw.digest, digest);
    let parsed = cais_types::oci::Document::parse(&raw.bytes, Some(&raw.media_type)).unwrap();
    let cais_types::oci::Document::Manifest(manifest) = parsed else {
        panic!("not a manifest");
    };
    for to in [registry.name("b:2"), other.name("c:3")] {
        let to_reference = reference(&to);
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let auth = CopyAuth::default();
            client
                .copy_blob(&from, &to_reference, blob, auth)
                .await
                .unwrap();
        }
        client
            .put_manifest(&to_reference, &raw, None)
            .await
            .unwrap();
        let back = Arc::new(MemoryStore::default());
        assert_eq!(pull(&client, &to, &back).await.unwrap()[0].digest, digest);
        assert_eq!(back.layers_of(&to), layers());
    }
    let inspected = client.inspect(&from, None).await.unwrap();
    assert_eq!(inspected.descriptor.digest, digest);
    assert_eq!(inspected.platforms[0].to_string(), "linux/amd64");
    let nowhere = reference(&registry.name("a:nosuch"));
    let error = client.get_manifest(&nowhere, None).await.unwrap_err();
    assert!(error.message().contains("manifest unknown"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_dies_fails_the_push_and_a_later_one_finishes() {
    let registry = Registry::start(&Options::default());
    let store = Arc::new(MemoryStore::default());
    let name = registry.name("a:1");
    store.build(&name, &layers());
    let hasty = Client::new(cais_distribution::client::ClientConfig {
        attempts: 1,
        ..super::config()
    })
    .unwrap();
    push(&hasty, &name, &store).await;
    let authority = registry.authority.clone();
    drop(registry);
    let error = push_as(&hasty, &name, &store, None).await.0.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "Get \"http://{authority}/v2/\": dial tcp {authority}: connect: connection refused"
        )
    );
}

async fn pushed_to(fake: &Fake, store: &Arc<MemoryStore>) -> Result<Vec<PushedReference>> {
    let name = fake.name("a:1");
    store.build(&name, &layers());
    let user = Some(Credentials::basic("user", "secret"));
    push_as(&client(), &name, store, user).await.0
}

#[tokio::test]
async fn a_registry_that_takes_no_parts_gets_blobs_whole() {
    for status in [405, 411, 501] {
        let fake = Fake::start().await;
        fake.faults(|faults| faults.refuse_parts = Some(status));
        let store = Arc::new(MemoryStore::default());
        pushed_to(&fake, &store).await.unwrap();
        let back = Arc::new(MemoryStore::default());
        pull(&client(), &fake.name("a:1"), &back).await.unwrap();
        assert_eq!(back.layers_of(&fake.name("a:1")), layers());
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_is_sent_again() {
    let fake = Fake::start().await;
    fake.faults(|faults| faults.cut_uploads = 4);
    let store = Arc::new(MemoryStore::default());
    pushed_to(&fake, &store).await.unwrap();
    let back = Arc::new(MemoryStore::default());
    pull(&client(), &fake.name("a:1"), &back).await.unwrap();
    assert_eq!(back.layers_of(&fake.name("a:1")), layers());
    assert!(written(&store) > 3);
}

#[tokio::test]
async fn a_mount_that_is_refused_becomes_an_upload() {
    let fake = Fake::start().await;
    let store = Arc::new(MemoryStore::default());
    pushed_to(&fake, &store).await.unwrap();
    fake.faults(|faults| faults.refuse_mounts = true);
    let blobs: Vec<String> = fake.state().blobs.keys().cloned().collect();
    // The other repository has nothing yet, though the registry has.
    let nothing = super::fake::Canned::status(404);
    fake.faults(|faults| {
        for blob in blobs {
            faults
                .always
                .push((format!("/v2/b/blobs/{blob}"), nothing.clone()));
        }
    });
    let name = fake.name("b:1");
    store.build(&name, &layers());
    written(&store);
    push(&client(), &name, &store).await;
    assert_eq!(written(&store), 3);
    assert_eq!(fake.asked("/v2/b/blobs/uploads/?mount=").len(), 3);
    let started = fake.asked("/v2/b/blobs/uploads/").into_iter();
    let started = started
        .filter(|seen| seen.target.ends_with("/uploads/"))
        .count();
    assert_eq!(
        started, 1,
        "only the configuration's: a refused mount is an upload"
    );
    assert!(fake.state().uploads.is_empty());
}

#[tokio::test]
async fn an_upload_that_is_sent_elsewhere_goes_without_credentials() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    let to = format!("http://{}", other.authority);
    fake.faults(|faults| {
        faults.wants = Some(("Basic dXNlcjpzZWNyZXQ=".into(), "Basic realm=\"x\"".into()));
        faults.upload_to = to.clone();
    });
    other.faults(|faults| faults.upload_to = to);
    let store = Arc::new(MemoryStore::default());
    pushed_to(&fake, &store).await.unwrap();
    assert!(fake.saw_credentials());
    assert_eq!(other.state().blobs.len(), 4);
    assert!(!other.saw_credentials());
}

#[tokio::test]
async fn a_registry_that_takes_nothing_more_is_given_up() {
    let fake = Fake::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.faults(|faults| faults.gate = Some(("/uploads/u".into(), gate)));
    let store = Arc::new(MemoryStore::default());
    let name = fake.name("a:1");
    store.build(&name, &layers());
    let hasty = Client::new(cais_distribution::client::ClientConfig {
        attempts: 1,
        connect_timeout: std::time::Duration::from_millis(100),
        read_timeout: std::time::Duration::from_millis(100),
        ..super::config()
    })
    .unwrap();
    let error = push_as(&hasty, &name, &store, None).await.0.unwrap_err();
    let stalled = ["i/o timeout", "Client.Timeout"];
    assert!(
        stalled.iter().any(|text| error.message().contains(text)),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_that_is_opened_when_nobody_waits_any_more_is_given_up() {
    let fake = Fake::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.faults(|faults| faults.gate = Some(("/uploads/".into(), gate.clone())));
    let store = Arc::new(MemoryStore::default());
    let name = fake.name("a:1");
    store.build(&name, &layers());
    let until = |condition: fn(&Fake) -> bool| {
        let fake = &fake;
        async move {
            while !condition(fake) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    };
    let client = client();
    tokio::select! {
        ended = push_as(&client, &name, &store, None) => panic!("{:?}", ended.0),
        () = until(|fake| !fake.asked("/blobs/uploads/").is_empty()) => {}
    }
    gate.add_permits(100);
    let given_up = until(|fake| {
        let asked = fake.asked("/uploads/u");
        asked.iter().any(|seen| seen.method == "DELETE") && fake.state().uploads.is_empty()
    });
    let minute = std::time::Duration::from_secs(60);
    tokio::time::timeout(minute, given_up).await.unwrap();
}
