//! The registry client, against a registry of the tests that misbehaves on demand and against Debian's docker-registry.

mod accounts;
mod errors;
mod fake;
mod hosts;
mod memory;
mod peer;
mod pulls;
mod pushes;
mod resume;
mod sharing;
mod trust;

use std::sync::Arc;

use cais_distribution::client::store::PullStore;
use cais_distribution::client::{
    Client, ClientConfig, Credentials, Event, PullRequest, PulledReference, channel,
};
use cais_types::{Digest, Reference, Result};
use memory::MemoryStore;

/// A client without the machine's settings, with little patience.
pub fn config() -> ClientConfig {
    ClientConfig {
        certs_dirs: Vec::new(),
        read_timeout: std::time::Duration::from_secs(5),
        ..ClientConfig::default()
    }
}

pub fn client() -> Client {
    Client::new(config()).unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::from_bytes(hash.as_ref().try_into().unwrap())
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn request(text: &str) -> PullRequest {
    PullRequest {
        reference: reference(text),
        all_tags: false,
        platform: Some("linux/amd64".parse().unwrap()),
        auth: None,
    }
}

pub fn with_auth(text: &str, auth: Credentials) -> PullRequest {
    PullRequest {
        auth: Some(auth),
        ..request(text)
    }
}

/// Pulls and collects what was told.
pub async fn pull_telling(
    client: &Client,
    request: PullRequest,
    store: &Arc<MemoryStore>,
) -> (Result<Vec<PulledReference>>, Vec<Event>) {
    let (sink, mut stream) = channel();
    let store: Arc<dyn PullStore> = store.clone();
    let events = async {
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event);
        }
        events
    };
    tokio::join!(client.pull(request, store, sink), events)
}

pub async fn pull(
    client: &Client,
    text: &str,
    store: &Arc<MemoryStore>,
) -> Result<Vec<PulledReference>> {
    pull_telling(client, request(text), store).await.0
}

/// What events say, without counts: `id: text`.
pub fn words(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Message { id: None, status } => status.clone(),
            Event::Message {
                id: Some(id),
                status,
            } => format!("{id}: {status}"),
            Event::Layer { id, step, .. } => format!("{id}: {step}"),
            Event::Pushed { tag, digest, size } => format!("{tag} {digest} {size}"),
        })
        .collect()
}
