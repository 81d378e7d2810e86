//! What users are told, as docker tells it.

use std::sync::Arc;

use cais_distribution::client::Credentials;
use cais_types::ErrorClass;

use super::fake::{Canned, Fake};
use super::memory::{MemoryStore, noise};
use super::{client, config, pull, pull_telling, with_auth};

#[tokio::test]
async fn nobody_listens() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let authority = free.local_addr().unwrap().to_string();
    drop(free);
    let store = Arc::new(MemoryStore::default());
    let hasty = cais_distribution::client::Client::new(cais_distribution::client::ClientConfig {
        attempts: 1,
        ..config()
    })
    .unwrap();
    let error = pull(&hasty, &format!("{authority}/a"), &store)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "Get \"http://{authority}/v2/\": dial tcp {authority}: connect: connection refused"
        )
    );
    let error = pull(&hasty, "registry.invalid/a", &store)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "Get \"https://registry.invalid/v2/\": dial tcp: lookup registry.invalid: no such host"
    );
}

#[tokio::test]
async fn no_such_manifest_and_no_access() {
    let fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 10)]);
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let name = fake.name("a:nosuch");
    let error = pull(&client, &name, &store).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("manifest for {name} not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.class(), ErrorClass::NotFound);

    let denied = Canned {
        status: 403,
        body: br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#
            .as_slice()
            .into(),
        ..Canned::default()
    };
    fake.faults(|faults| faults.always.push(("/v2/secret/".into(), denied)));
    let error = pull(&client, &fake.name("secret:1"), &store)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            fake.name("secret")
        )
    );
}

#[tokio::test]
async fn basic_registries_want_credentials() {
    let fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 10)]);
    // user:secret
    let good = "Basic dXNlcjpzZWNyZXQ=".to_owned();
    fake.faults(|faults| faults.wants = Some((good, "Basic realm=\"test\"".into())));
    let store = Arc::new(MemoryStore::default());
    let client = client();
    let name = fake.name("a:1");
    let error = pull(&client, &name, &store).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "Head \"http://{}/v2/a/manifests/1\": no basic auth credentials",
            fake.authority
        )
    );
    let wrong = with_auth(&name, Credentials::basic("user", "wrong"));
    let error = pull_telling(&client, wrong, &store).await.0.unwrap_err();
    assert_eq!(error.message(), "unauthorized: authentication required");
    let right = with_auth(&name, Credentials::basic("user", "secret"));
    pull_telling(&client, right, &store).await.0.unwrap();
}

#[tokio::test]
async fn artifacts_are_no_images() {
    let fake = Fake::start().await;
    let config = fake.add_blob("{}");
    let kind = "application/vnd.cncf.helm.config.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let oci = cais_types::oci::media_type::MANIFEST;
    fake.add_manifest("1", oci, manifest.as_bytes());
    let store = Arc::new(MemoryStore::default());
    let error = pull(&client(), &fake.name("a:1"), &store)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        format!("Encountered remote {kind:?}(unknown) when fetching")
    );
}
