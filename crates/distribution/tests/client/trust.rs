//! Registries that lie, and to whom credentials go. Each test that bears the number of a hole fails on a client that has it.

use std::sync::Arc;

use bytes::Bytes;
use cais_distribution::client::Credentials;
use cais_types::oci::{Descriptor, media_type};

use super::fake::{Canned, Fake};
use super::memory::{MemoryStore, noise};
use super::{client, pull, pull_telling, with_auth};

fn user() -> Credentials {
    Credentials::basic("user", "secret")
}

fn bearer(realm: &str) -> (String, String) {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a:pull\"");
    ("Bearer good".into(), challenge)
}

async fn registry() -> Fake {
    let fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 5000)]);
    fake
}

async fn pull_as_user(fake: &Fake) -> cais_types::Result<()> {
    let store = Arc::new(MemoryStore::default());
    let asked = with_auth(&fake.name("a:1"), user());
    pull_telling(&client(), asked, &store).await.0.map(drop)
}

#[tokio::test]
async fn cve_2020_15157_a_redirect_target_gets_no_credentials_and_its_challenge_no_answer() {
    let (home, evil) = (registry().await, registry().await);
    let good = "Basic dXNlcjpzZWNyZXQ=".to_owned();
    home.faults(|faults| {
        faults.wants = Some((good, "Basic realm=\"test\"".into()));
    });
    // Proves itself first, then sends the blobs elsewhere.
    pull_as_user(&home).await.unwrap();
    assert!(home.saw_credentials());
    let elsewhere = format!("http://{}/v2/a/blobs", evil.authority);
    let blobs: Vec<String> = home.state().blobs.keys().cloned().collect();
    home.faults(|faults| {
        faults.wants = None;
        for blob in blobs {
            let to = Canned::redirect(&format!("{elsewhere}/{blob}"));
            faults.always.push((format!("/v2/a/blobs/{blob}"), to));
        }
    });
    let manifest = home.state().manifests["1"].1.clone();
    assert!(!manifest.is_empty());
    pull_as_user(&home).await.unwrap();
    assert!(!evil.asked("/blobs/").is_empty());
    assert!(!evil.saw_credentials());

    evil.faults(|faults| {
        faults.wants = Some(("Basic x".into(), "Basic realm=\"give me\"".into()));
    });
    pull_as_user(&home).await.unwrap_err();
    let realm = format!("http://{}/token", evil.authority);
    evil.faults(|faults| faults.wants = Some(bearer(&realm)));
    pull_as_user(&home).await.unwrap_err();
    assert!(evil.asked("/token").is_empty());
    assert!(!evil.saw_credentials());
}

#[tokio::test]
async fn cve_2019_10214_an_insecure_registry_does_not_send_credentials_to_another_host() {
    let fake = registry().await;
    for realm in [
        "https://tokens.example/token",
        "http://tokens.example/token",
    ] {
        fake.faults(|faults| faults.wants = Some(bearer(realm)));
        let error = pull_as_user(&fake).await.unwrap_err();
        assert!(error.message().contains("refusing to use"), "{error}");
    }
}

#[tokio::test]
async fn cve_2024_3727_nobody_but_the_registry_of_the_reference_gets_credentials() {
    // A mirror asks for credentials; they are for docker.io.
    let mirror = registry().await;
    mirror.faults(|faults| faults.wants = Some(("Basic x".into(), "Basic realm=\"m\"".into())));
    let config = cais_distribution::client::ClientConfig {
        mirrors: vec![format!("http://{}", mirror.authority)],
        attempts: 1,
        // The registry itself is out of reach, whatever the machine's network is.
        proxies: cais_distribution::client::Proxies {
            https: Some("http://127.0.0.1:1".into()),
            ..Default::default()
        },
        ..super::config()
    };
    let client = cais_distribution::client::Client::new(config).unwrap();
    let store = Arc::new(MemoryStore::default());
    let asked = with_auth("docker.io/a/b:1", user());
    pull_telling(&client, asked, &store).await.0.unwrap_err();
    assert!(!mirror.asked("/v2/a/b/manifests/1").is_empty());
    assert!(!mirror.saw_credentials());
}

#[tokio::test]
async fn cve_2026_33540_token_servers_on_forbidden_addresses_are_not_asked() {
    let fake = registry().await;
    for realm in [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/token",
        "https://[fd00:ec2::254]/token",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "https://user:pass@127.0.0.1/token",
        "not a url",
    ] {
        fake.faults(|faults| faults.wants = Some(bearer(realm)));
        let store = Arc::new(MemoryStore::default());
        let error = pull(&client(), &fake.name("a:1"), &store)
            .await
            .unwrap_err();
        assert!(
            error.message().contains("refusing to use"),
            "{realm}: {error}"
        );
    }
}

#[tokio::test]
async fn cve_2026_33990_redirects_to_forbidden_addresses_are_not_followed() {
    let fake = registry().await;
    for to in [
        "http://169.254.169.254/latest/meta-data/iam",
        "http://[fe80::1]/",
        "ftp://127.0.0.1/",
        "file:///etc/shadow",
    ] {
        let redirect = Canned::redirect(to);
        fake.faults(|faults| faults.always = vec![("/v2/a/manifests".into(), redirect)]);
        let store = Arc::new(MemoryStore::default());
        let error = pull(&client(), &fake.name("a:1"), &store)
            .await
            .unwrap_err();
        assert!(error.message().contains("refusing to use"), "{to}: {error}");
    }
    let error = pull(&client(), "169.254.169.254/a:1", &Arc::default())
        .await
        .unwrap_err();
    assert!(error.message().contains("refusing to use"), "{error}");
}

#[tokio::test]
async fn redirects_of_token_servers_are_not_followed() {
    let (fake, evil) = (registry().await, registry().await);
    let realm = format!("http://{}/token", fake.authority);
    let to = Canned::redirect(&format!("http://{}/token", evil.authority));
    fake.faults(|faults| {
        faults.wants = Some(bearer(&realm));
        faults.always.push(("/token".into(), to));
    });
    pull_as_user(&fake).await.unwrap_err();
    assert!(fake.saw_credentials());
    assert!(evil.state().seen.is_empty());
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let fake = registry().await;
    let to = Canned::redirect("/v2/a/manifests/1");
    fake.faults(|faults| faults.always.push(("/v2/a/manifests".into(), to)));
    let error = pull(&client(), &fake.name("a:1"), &Arc::default())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("stopped after 10 redirects"),
        "{error}"
    );
}

#[tokio::test]
async fn foreign_layers_come_from_the_registry_and_their_urls_are_not_asked() {
    let (fake, evil) = (Fake::start().await, registry().await);
    let mut manifest = fake.add_image("1", &[noise(1, 5000)]);
    manifest.layers[0].urls = vec![
        format!("http://{}/layer", evil.authority),
        "http://169.254.169.254/".into(),
    ];
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fake.add_manifest("1", media_type::MANIFEST, &bytes);
    pull_as_user(&fake).await.unwrap();
    fake.state()
        .blobs
        .remove(&manifest.layers[0].digest.to_string());
    pull_as_user(&fake).await.unwrap_err();
    assert!(evil.state().seen.is_empty());
}

#[tokio::test]
async fn cve_2021_41190_ghsa_xmmx_7jpf_fx42_what_is_a_manifest_and_an_index_is_neither() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("good", &[noise(1, 100)]);
    let mut both = serde_json::to_value(&manifest).unwrap();
    both["manifests"] = serde_json::json!([]);
    both.as_object_mut().unwrap().remove("mediaType");
    let both = serde_json::to_vec(&both).unwrap();
    let good = serde_json::to_vec(&manifest).unwrap();
    for (kind, bytes) in [
        (media_type::MANIFEST, &both),
        (media_type::INDEX, &both),
        ("application/json", &both),
        (media_type::INDEX, &good),
        (media_type::DOCKER_MANIFEST, &good),
    ] {
        fake.add_manifest("odd", kind, bytes);
        let error = pull(&client(), &fake.name("a:odd"), &Arc::default())
            .await
            .unwrap_err();
        assert!(
            error.message().contains("ambiguous media type"),
            "{kind}: {error}"
        );
    }
}

#[tokio::test]
async fn cve_2022_24778_encrypted_layers_are_not_taken_for_plain_ones_that_are_there() {
    let fake = Fake::start().await;
    let mut manifest = fake.add_image("plain", &[noise(1, 5000)]);
    let store = Arc::new(MemoryStore::default());
    pull(&client(), &fake.name("a:plain"), &store)
        .await
        .unwrap();
    // The same configuration, whose layers only who has the key may have.
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    manifest.layers[0].media_type = kind.to_owned();
    manifest.layers[0].digest = super::digest(b"ciphertext");
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fake.add_manifest("secret", media_type::MANIFEST, &bytes);
    for store in [store, Arc::default()] {
        let name = fake.name("a:secret");
        let error = pull(&client(), &name, &store).await.unwrap_err();
        assert!(
            error
                .message()
                .contains("is encrypted, which is not supported"),
            "{error}"
        );
        assert!(store.id_of(&name).is_none());
    }
}

/// An index whose one entry says other things of the manifest than are true.
async fn pull_through_index(change: impl FnOnce(&mut Descriptor)) -> cais_types::Result<()> {
    let fake = Fake::start().await;
    let manifest = fake.add_image("x", &[noise(1, 100)]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let digest = fake.add_manifest("x", media_type::MANIFEST, &bytes);
    let mut entry = Descriptor::new(media_type::MANIFEST, digest, bytes.len() as u64);
    entry.platform = Some("linux/amd64".parse().unwrap());
    change(&mut entry);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fake.add_manifest("1", media_type::INDEX, &serde_json::to_vec(&index).unwrap());
    pull(&client(), &fake.name("a:1"), &Arc::default())
        .await
        .map(drop)
}

#[tokio::test]
async fn entries_of_an_index_are_what_they_say() {
    pull_through_index(|_| {}).await.unwrap();
    let wrong_size = pull_through_index(|entry| entry.size += 1)
        .await
        .unwrap_err();
    assert!(wrong_size.message().contains("expected"), "{wrong_size}");
    let wrong_kind = pull_through_index(|entry| entry.media_type = media_type::INDEX.into());
    let wrong_kind = wrong_kind.await.unwrap_err();
    assert!(wrong_kind.message().contains("ambiguous"), "{wrong_kind}");
}

#[tokio::test]
async fn what_is_asked_by_digest_has_it() {
    let fake = registry().await;
    let bytes = fake.state().manifests["1"].1.clone();
    let wanted = super::digest(b"something else");
    fake.state()
        .manifests
        .insert(wanted.to_string(), (media_type::MANIFEST.into(), bytes));
    let name = format!("{}@{wanted}", fake.name("a"));
    let error = pull(&client(), &name, &Arc::default()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("manifest verification failed for digest {wanted}")
    );
}

#[tokio::test]
async fn layers_and_configurations_of_another_content_are_refused() {
    let fake = Fake::start().await;
    let manifest = fake.add_image("1", &[noise(1, 5000)]);
    let name = fake.name("a:1");
    let layer = manifest.layers[0].digest.to_string();
    let right = fake.state().blobs[&layer].clone();
    let mut flipped = right.to_vec();
    flipped[2500] ^= 1;
    let longer = [right.as_ref(), b"more"].concat();
    for (what, blob, no_length) in [
        (
            "filesystem layer verification failed",
            Bytes::from(flipped),
            false,
        ),
        ("expected", right.slice(..4000), false),
        ("expected", Bytes::from(longer.clone()), false),
        ("expected", Bytes::from(longer), true),
    ] {
        fake.state().blobs.insert(layer.clone(), blob);
        fake.faults(|faults| faults.no_length = no_length);
        let store = Arc::new(MemoryStore::default());
        let error = pull(&client(), &name, &store).await.unwrap_err();
        assert!(error.message().contains(what), "{error}");
        assert!(store.id_of(&name).is_none());
    }
    fake.state().blobs.insert(layer, right);
    let config = manifest.config.digest.to_string();
    let mut other = fake.state().blobs[&config].to_vec();
    other[5] ^= 1;
    fake.state().blobs.insert(config.clone(), other.into());
    let error = pull(&client(), &name, &Arc::default()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("blob verification failed for digest {config}")
    );
}

#[tokio::test]
async fn cve_2023_2253_giant_answers_are_not_read() {
    let fake = registry().await;
    let giant = Bytes::from(vec![b' '; 5 << 20]);
    fake.state()
        .manifests
        .insert("1".into(), (media_type::MANIFEST.into(), giant.clone()));
    let error = pull(&client(), &fake.name("a:1"), &Arc::default())
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the manifest is larger than 4194304 bytes");

    let realm = format!("http://{}/token", fake.authority);
    let canned = Canned {
        status: 200,
        body: giant.clone(),
        ..Canned::default()
    };
    fake.faults(|faults| {
        faults.wants = Some(bearer(&realm));
        faults.always.push(("/token".into(), canned));
    });
    let error = pull(&client(), &fake.name("a:1"), &Arc::default())
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the token is larger than 1048576 bytes");

    // A giant error is an error without words.
    let canned = Canned {
        status: 403,
        body: giant,
        ..Canned::default()
    };
    fake.faults(|faults| faults.always = vec![("/v2/a/".into(), canned)]);
    fake.faults(|faults| faults.wants = None);
    let error = pull(&client(), &fake.name("a:1"), &Arc::default())
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .ends_with("denied: requested access to the resource is denied")
    );
}
