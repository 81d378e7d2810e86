//! What is asked of the client, and what it answers.

use bytes::Bytes;
use cais_types::oci::{Descriptor, Platform};
use cais_types::{Digest, Reference};

use super::config::Credentials;
use super::store::Pulled;

/// A pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// What to pull; without tag and digest it is `latest`.
    pub reference: Reference,
    /// Every tag of the repository; the reference has neither tag nor digest then.
    pub all_tags: bool,
    /// None is this machine's.
    pub platform: Option<Platform>,
    pub auth: Option<Credentials>,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledReference {
    /// As asked, with its tag.
    pub reference: Reference,
    /// The digest of what the registry has under that name: an index's when it is an index.
    pub digest: Digest,
    pub image: Pulled,
}

/// A push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// What to push; without a tag it is `latest`.
    pub reference: Reference,
    /// Every local tag of the repository.
    pub all_tags: bool,
    pub auth: Option<Credentials>,
}

/// An image that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedReference {
    pub reference: Reference,
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: u64,
}

/// What a registry has under a name (`GET /distribution/{name}/json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

/// A login that worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// `Login Succeeded`.
    pub status: String,
    /// To be kept instead of the password, where the registry gave one.
    pub identity_token: Option<String>,
}

/// A manifest or an index as the registry keeps it; `digest` is that of `bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    pub bytes: Bytes,
    pub media_type: String,
    pub digest: Digest,
}

impl RawManifest {
    /// Media type, digest and size.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest,
            self.bytes.len() as u64,
        )
    }
}

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub name: String,
    pub description: String,
    pub star_count: i64,
    pub is_official: bool,
    pub is_automated: bool,
}

/// Credentials for both ends of a copy.
#[derive(Clone, Debug, Default)]
pub struct CopyAuth {
    pub source: Option<Credentials>,
    pub target: Option<Credentials>,
}
