//! Mirrors, certificates and TLS.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cais_distribution::client::{Client, ClientConfig};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::fake::Fake;
use super::memory::{MemoryStore, noise};
use super::{config, pull};

/// An authority of one's own, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Certificate and key for a name, PEM.
    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, name: &str, wants_client: bool) -> rustls::ServerConfig {
        let (certificate, key) = self.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        builder.with_single_cert(vec![chain.unwrap()], key).unwrap()
    }
}

fn with_certs(directory: &Path) -> Client {
    Client::new(ClientConfig {
        certs_dirs: vec![directory.to_owned()],
        attempts: 1,
        ..config()
    })
    .unwrap()
}

/// A mirror over TLS of a registry that is not there. Loopback registries need no certificate, mirrors are verified when
/// `hosts.toml` says https and they are not on loopback by name; so the mirror is reached by a name.
async fn mirror(authority: &Authority, wants_client: bool) -> (Fake, tempfile::TempDir, String) {
    let fake = Fake::start_tls(authority.server("localhost", wants_client)).await;
    fake.add_image("1", &[noise(1, 1000)]);
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("registry.invalid");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("ca.pem"), authority.0.pem()).unwrap();
    let port = fake.authority.rsplit_once(':').unwrap().1.to_owned();
    (fake, dir, port)
}

fn hosts(directory: &Path, text: &str) {
    fs::write(directory.join("registry.invalid/hosts.toml"), text).unwrap();
}

#[tokio::test]
async fn a_registry_of_any_name_has_mirrors() {
    let authority = Authority::new();
    let (fake, dir, port) = mirror(&authority, false).await;
    hosts(
        dir.path(),
        &format!("[host.\"https://localhost:{port}\"]\nca = \"ca.pem\"\n"),
    );
    let store = Arc::new(MemoryStore::default());
    let name = "registry.invalid/a:1";
    pull(&with_certs(dir.path()), name, &store).await.unwrap();
    assert!(store.id_of(name).is_some());
    assert!(fake.asked("/v2/a/manifests/1?ns=registry.invalid").len() == 1);
}

#[tokio::test]
async fn a_mirror_that_does_not_have_it_is_passed_over() {
    let (empty, full) = (Fake::start().await, Fake::start().await);
    let manifest = full.add_image("1", &[noise(1, 1000)]);
    let broken = Fake::start().await;
    broken.add_image("1", &[noise(1, 1000)]);
    let layer = manifest.layers[0].digest.to_string();
    broken.state().blobs.remove(&layer);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("registry.invalid")).unwrap();
    let entry = |fake: &Fake| format!("[host.\"http://{}\"]\n", fake.authority);
    hosts(
        dir.path(),
        &[entry(&empty), entry(&broken), entry(&full)].concat(),
    );
    let store = Arc::new(MemoryStore::default());
    pull(&with_certs(dir.path()), "registry.invalid/a:1", &store)
        .await
        .unwrap();
    assert_eq!(empty.asked("/manifests/").len(), 1);
    assert_eq!(broken.asked(&layer).len(), 1, "the layer was not there");
    assert_eq!(full.asked(&layer).len(), 1);
}

#[tokio::test]
async fn client_certificates_are_shown() {
    let authority = Authority::new();
    let (_fake, dir, port) = mirror(&authority, true).await;
    let own = dir.path().join("registry.invalid");
    let (certificate, key) = authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    fs::write(own.join("c.cert"), certificate).unwrap();
    fs::write(own.join("c.key"), key).unwrap();
    let host = format!("[host.\"https://localhost:{port}\"]\nca = \"ca.pem\"\n");
    hosts(dir.path(), &host);
    let name = "registry.invalid/a:1";
    pull(&with_certs(dir.path()), name, &Arc::default())
        .await
        .unwrap_err();
    hosts(
        dir.path(),
        &format!("{host}client = [[\"c.cert\", \"c.key\"]]\n"),
    );
    pull(&with_certs(dir.path()), name, &Arc::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn cve_2025_6032_certificates_are_verified() {
    // A name that is no loopback by itself, and leads here by the proxy of the test.
    let (ours, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("registry.invalid");
    fs::create_dir(&own).unwrap();
    let fake = Fake::start_tls(ours.server("registry.invalid", false)).await;
    fake.add_image("1", &[noise(1, 1000)]);
    let tunnel = super::fake::tunnel(&fake.authority).await;
    let client = |insecure: &[&str]| {
        Client::new(ClientConfig {
            certs_dirs: vec![dir.path().to_owned()],
            insecure_registries: insecure.iter().map(|s| (*s).to_owned()).collect(),
            attempts: 1,
            proxies: cais_distribution::client::Proxies {
                https: Some(format!("http://{tunnel}")),
                ..Default::default()
            },
            ..config()
        })
        .unwrap()
    };
    let name = "registry.invalid/a:1";
    let error = pull(&client(&[]), name, &Arc::default()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "Get \"https://registry.invalid/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    // A certificate that is put there counts from the next pull on.
    let one = client(&[]);
    fs::write(own.join("ca.crt"), other.0.pem()).unwrap();
    pull(&one, name, &Arc::default()).await.unwrap_err();
    assert!(
        fake.state().seen.is_empty(),
        "nothing is said to who is not known"
    );
    fs::write(own.join("ca.crt"), ours.0.pem() + "\n").unwrap();
    pull(&one, name, &Arc::default()).await.unwrap();
    fs::remove_file(own.join("ca.crt")).unwrap();
    pull(&client(&["registry.invalid"]), name, &Arc::default())
        .await
        .unwrap();

    let elsewhere = "elsewhere.invalid/a:1";
    fs::create_dir(dir.path().join("elsewhere.invalid")).unwrap();
    fs::write(dir.path().join("elsewhere.invalid/ca.crt"), ours.0.pem()).unwrap();
    let error = pull(&client(&[]), elsewhere, &Arc::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "Get \"https://elsewhere.invalid/v2/\": tls: failed to verify certificate: x509: certificate is valid for registry.invalid, not elsewhere.invalid"
    );
}

#[tokio::test]
async fn a_verified_registry_may_name_a_token_server_but_not_without_tls() {
    let ours = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start_tls(ours.server("registry.invalid", false)).await;
    let tokens = Fake::start_tls(ours.server("tokens.invalid", false)).await;
    fake.add_image("1", &[noise(1, 1000)]);
    let own = dir.path().join("registry.invalid");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("ca.crt"), ours.0.pem()).unwrap();
    let tunnel = super::fake::tunnel_by_name(&[
        ("registry.invalid", &fake.authority),
        ("tokens.invalid", &tokens.authority),
    ])
    .await;
    let client = || {
        Client::new(ClientConfig {
            certs_dirs: vec![dir.path().to_owned()],
            attempts: 1,
            proxies: cais_distribution::client::Proxies {
                http: Some(format!("http://{tunnel}")),
                https: Some(format!("http://{tunnel}")),
                no_proxy: None,
            },
            ..config()
        })
        .unwrap()
    };
    let answer = super::fake::Canned::json(r#"{"token":"good"}"#);
    tokens.faults(|faults| faults.always.push(("/token".into(), answer)));
    let ask = |realm: &str| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        fake.faults(|faults| faults.wants = Some(("Bearer good".into(), challenge)));
        let user = super::Credentials::basic("user", "secret");
        let asked = super::with_auth("registry.invalid/a:1", user);
        // Another client, which knows of no other token server.
        let client = client();
        async move { super::pull_telling(&client, asked, &Arc::default()).await.0 }
    };
    ask("https://tokens.invalid/token").await.unwrap();
    assert!(tokens.saw_credentials());
    tokens.state().seen.clear();
    let error = ask("http://tokens.invalid/token").await.unwrap_err();
    assert!(
        error
            .message()
            .contains("it is not encrypted, and the registry is"),
        "{error}"
    );
    let error = ask("https://127.0.0.1/token").await.unwrap_err();
    assert!(
        error
            .message()
            .contains("its address is not one of a registry"),
        "{error}"
    );
    assert!(tokens.state().seen.is_empty());
}

#[tokio::test]
async fn an_insecure_registry_may_change_between_http_and_tls() {
    let ours = Authority::new();
    let mut fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 1000)]);
    let name = fake.name("a:1");
    let client = super::client();
    for tls in [None, Some(ours.server("x", false)), None] {
        fake.restart(tls).await;
        pull(&client, &name, &Arc::default()).await.unwrap();
    }
}
