//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Empty;
use super::container::{ContainerConfig, GraphDriver, HealthConfig};
use super::decode::{is_zero, text_or_list};

/// A content descriptor (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    /// In bytes.
    pub size: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<ImagePlatform>,
    #[serde(skip_serializing_if = "is_zero")]
    pub artifact_type: String,
}

/// The machine an image is for (OCI image-spec, image-index.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagePlatform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
}

/// The configuration of an image as `inspect` shows it since API 1.50. Fields that are always there are Docker's own
/// compatibility set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "text_or_list")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "text_or_list")]
    pub entrypoint: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    pub labels: Option<BTreeMap<String, String>>,
    pub on_build: Option<Vec<String>>,
    #[serde(
        deserialize_with = "text_or_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    pub user: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
}

impl From<ImageConfig> for ContainerConfig {
    fn from(image: ImageConfig) -> Self {
        Self {
            args_escaped: image.args_escaped,
            cmd: image.cmd,
            entrypoint: image.entrypoint,
            env: image.env.unwrap_or_default(),
            exposed_ports: image.exposed_ports,
            healthcheck: image.healthcheck,
            labels: image.labels.unwrap_or_default(),
            on_build: image.on_build,
            shell: image.shell,
            stop_signal: image.stop_signal,
            user: image.user,
            volumes: image.volumes,
            working_dir: image.working_dir,
            ..Self::default()
        }
    }
}

impl From<ContainerConfig> for ImageConfig {
    fn from(config: ContainerConfig) -> Self {
        Self {
            args_escaped: config.args_escaped,
            cmd: config.cmd,
            entrypoint: config.entrypoint,
            env: Some(config.env).filter(|env| !env.is_empty()),
            exposed_ports: config.exposed_ports,
            healthcheck: config.healthcheck,
            labels: Some(config.labels).filter(|labels| !labels.is_empty()),
            on_build: config.on_build,
            shell: config.shell,
            stop_signal: config.stop_signal,
            user: config.user,
            volumes: config.volumes,
            working_dir: config.working_dir,
        }
    }
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    pub r#type: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What the engine knows about an image besides its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    pub last_tag_time: String,
}

impl Default for ImageMetadata {
    fn default() -> Self {
        Self {
            last_tag_time: super::ZERO_TIME.to_owned(),
        }
    }
}

/// `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub config: ImageConfig,
    pub architecture: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub os_version: String,
    pub size: i64,
    /// Only for API versions below 1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
}

/// One row of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    /// -1 when it was not counted.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    pub id: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Where the image is one of several behind a name; only when they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// -1 when it was not computed.
    pub shared_size: i64,
    pub size: i64,
    /// Only for API versions below 1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
}

/// A manifest of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    /// Whether all of it is here.
    pub available: bool,
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestation>,
}

/// Bytes of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// As it is moved.
    pub content: i64,
    /// With its files.
    pub total: i64,
}

/// What a manifest says of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestImage {
    pub platform: ImagePlatform,
    /// Ids of the containers that were made from it.
    pub containers: Vec<String>,
    pub size: UnpackedSize,
}

/// Bytes of an image's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// What a manifest attests something of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestAttestation {
    /// The digest of a manifest.
    pub r#for: String,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` for a layer that is no image of its own.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// Something that an image removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDeleteItem {
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: String,
}

/// One line of `POST /cais/system/check`: findings first, the summary last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<CheckFinding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<CheckSummary>,
    /// Why the check ended early.
    #[serde(rename = "error", skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Something that is wrong in the image store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckFinding {
    /// `damaged layer`, `missing layer`, `damaged blob`, `wrong size`, `orphan layer` or `orphan blob`.
    pub kind: String,
    /// What it is stored under.
    pub id: String,
    pub detail: String,
    /// Names, or else ids, of the images that need it.
    pub images: Vec<String>,
    pub repaired: bool,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckSummary {
    pub blobs: u64,
    pub layers: u64,
    /// Bytes read of all layers.
    pub bytes: u64,
    pub findings: u64,
    /// Findings that are still there.
    pub left: u64,
}

/// The answer of `prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagePruneResponse {
    pub images_deleted: Option<Vec<ImageDeleteItem>>,
    pub space_reclaimed: u64,
}
