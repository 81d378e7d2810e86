//! The registry server over HTTP: in this process, and Debian's docker-registry where both must do the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod clients;
mod cves;
mod endpoints;
mod gc;
mod peer;
mod proxy;
mod rows;
mod shared;

use std::path::PathBuf;
use std::time::Duration;

use cais_registry::{AuthConfig, GcPolicy, Limits, Server, ServerConfig};
use cais_testkit::http::{Answer, Http};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server of ours in this process.
pub struct Ours {
    pub http: Http,
    pub root: TempDir,
    end: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

/// The settings that tests start from.
pub fn config(root: PathBuf) -> ServerConfig {
    ServerConfig {
        root,
        listen: vec!["127.0.0.1:0".to_owned()],
        tls: None,
        auth: AuthConfig::None,
        anonymous_pull: false,
        limits: Limits {
            upload: u64::MAX,
            idle: Duration::from_secs(30),
            read_only: false,
            delete: true,
        },
        gc: GcPolicy::default(),
        gc_interval: None,
        upstreams: Vec::new(),
        fallback: None,
    }
}

impl Ours {
    /// With the usual settings.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change)
    }

    /// On a folder that may be there already.
    pub fn at(root: TempDir, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = config(root.path().join("registry"));
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::bind(config)).unwrap();
        let address = server.addresses()[0].to_string();
        let (end, ended) = watch::channel(false);
        runtime.spawn(server.serve(ended));
        Self {
            http: Http::new(address),
            root,
            end,
            runtime: Some(runtime),
        }
    }

    /// Ends the server and keeps its folder.
    pub fn stop(mut self) -> TempDir {
        let root = std::mem::replace(&mut self.root, tempfile::tempdir().unwrap());
        drop(self);
        root
    }

    /// The folder that is served.
    pub fn folder(&self) -> PathBuf {
        self.root.path().join("registry")
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ends = self.end.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// `sha256:...` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("sha256:{}", hex::encode(hash.as_ref()))
}

/// The first error code of a refusal.
pub fn code(answer: &Answer) -> String {
    let code = &answer.json()["errors"][0]["code"];
    code.as_str().unwrap_or("none").to_owned()
}

/// Pushes a blob with POST and PUT; answers its digest.
pub fn push_blob(http: &Http, name: &str, bytes: &[u8]) -> String {
    let location = open_upload(http, name);
    let digest = digest(bytes);
    let answer = put_upload(http, &location, &digest, bytes);
    assert_eq!(answer.status, 201, "{}", answer.text());
    digest
}

/// Opens an upload; answers where it goes on.
pub fn open_upload(http: &Http, name: &str) -> String {
    let path = format!("/v2/{name}/blobs/uploads/");
    let answer = http.send("POST", &path, &[], &[]).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    location(&answer)
}

/// Where an answer says to go on, without host.
pub fn location(answer: &Answer) -> String {
    let location = answer.header("location").expect("a location");
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Finishes an upload.
pub fn put_upload(http: &Http, location: &str, digest: &str, bytes: &[u8]) -> Answer {
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest={digest}");
    let headers = [("Content-Type", "application/octet-stream")];
    http.send("PUT", &path, &headers, bytes).unwrap()
}

/// A manifest of a configuration and layers that are given with their bytes.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> serde_json::Value {
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let layers: Vec<_> = layers
        .iter()
        .map(|bytes| describe("application/vnd.oci.image.layer.v1.tar+gzip", bytes))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    })
}

/// Puts a manifest under a tag or digest.
pub fn put_manifest(
    http: &Http,
    name: &str,
    reference: &str,
    document: &serde_json::Value,
) -> Answer {
    let kind = document["mediaType"]
        .as_str()
        .unwrap_or(MANIFEST)
        .to_owned();
    let path = format!("/v2/{name}/manifests/{reference}");
    let bytes = document.to_string();
    http.send("PUT", &path, &[("Content-Type", &kind)], bytes.as_bytes())
        .unwrap()
}

/// Pushes a whole image; answers its manifest's digest.
pub fn push_image(http: &Http, name: &str, tag: &str, seed: &str) -> String {
    let (config, layer) = (format!("{{\"seed\":\"{seed}\"}}"), format!("layer {seed}"));
    push_blob(http, name, config.as_bytes());
    push_blob(http, name, layer.as_bytes());
    let document = manifest(config.as_bytes(), &[layer.as_bytes()]);
    let answer = put_manifest(http, name, tag, &document);
    assert_eq!(answer.status, 201, "{}", answer.text());
    digest(document.to_string().as_bytes())
}

/// GET with every media type accepted; the status.
pub fn status(http: &Http, path: &str) -> u16 {
    http.send("GET", path, &[("Accept", "*/*")], &[])
        .unwrap()
        .status
}
