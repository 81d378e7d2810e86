//! The documents of an image: its configuration (OCI config.md, Docker image spec 1.2) and manifests, as far as this room
//! reads them. The configuration itself is kept as the bytes that came: its digest is the image's id.

use std::collections::BTreeMap;

use cais_types::Digest;
use cais_types::oci::Descriptor;
use serde::{Deserialize, Serialize};

/// An image configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    #[serde(default)]
    pub author: Option<String>,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub docker_version: Option<String>,
    /// `Env`, `Cmd`, `Entrypoint`, ... as the wire model of a container's configuration has them.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    #[serde(default)]
    pub rootfs: Rootfs,
    #[serde(default)]
    pub history: Option<Vec<HistoryRecord>>,
}

impl ImageConfig {
    /// Labels of `config.Labels`.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config.as_ref().and_then(|config| config.get("Labels"));
        labels
            .and_then(|labels| serde_json::from_value(labels.clone()).ok())
            .unwrap_or_default()
    }

    /// When the image was made, seconds since 1970.
    pub fn created_seconds(&self) -> i64 {
        seconds(self.created.as_deref())
    }
}

/// `rootfs` of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rootfs {
    /// Digests of the plain layer streams, lowest first.
    #[serde(default)]
    pub diff_ids: Option<Vec<Digest>>,
}

/// One item of `history`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HistoryRecord {
    #[serde(default)]
    pub created: Option<String>,
    #[serde(default)]
    pub created_by: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub empty_layer: bool,
}

impl HistoryRecord {
    /// When, in seconds since 1970.
    pub fn created_seconds(&self) -> i64 {
        seconds(self.created.as_deref())
    }
}

fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map_or(0, jiff::Timestamp::as_second)
}

/// An index or a manifest; which of them is told by what it has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestOrIndex {
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default)]
    pub layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}
