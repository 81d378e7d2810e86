//! Images made of a directory that overlayfs wrote to: of a container's read/write layer, or of a build step. Two steps, so
//! that what writes to the directory need stand still during the first only.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, Reference};
use rustix::fs::AtFlags;
use serde_json::{Map, Value, json};

use crate::addition::NewImage;
use crate::error::ImageError;
use crate::layers::changes::is_whiteout;
use crate::layers::unpack::UnpackedLayer;
use crate::layers::upper::{Upper, from_upper};
use crate::layers::{DIFF, open_directory};
use crate::store::Store;

/// The digest of a tar stream without entries: a layer that changes nothing.
const EMPTY_TAR: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// A layer that was read and is in no image yet; dropped, it is deleted.
pub struct ReadLayer(UnpackedLayer);

impl ReadLayer {
    /// Digest of the plain tar stream.
    pub fn diff(&self) -> Digest {
        self.0.diff
    }

    pub(crate) fn into_unpacked(self) -> UnpackedLayer {
        self.0
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.diff.to_string() == EMPTY_TAR
    }
}

/// What an image on top of another one is to be.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The image below; none for the first layer of all.
    pub parent: Option<Digest>,
    /// What an image without one below is for; this machine without it.
    pub platform: Option<Platform>,
    /// `Env`, `Cmd`, `Entrypoint`, ...
    pub config: Map<String, Value>,
    pub author: String,
    pub comment: String,
    /// What made the layer, for the history.
    pub created_by: String,
    /// When it was made, RFC 3339; now without it.
    pub created: Option<String>,
    /// The container that was committed.
    pub container: Option<ContainerId>,
    pub references: Vec<Reference>,
    /// Keeps the image from the moment it is there, see [`Store::holder`].
    pub holder: Option<u64>,
}

impl Store {
    /// The directory a container writes to.
    pub fn upper(&self, container: &ContainerId) -> PathBuf {
        self.root
            .join("containers")
            .join(container.to_string())
            .join("upper")
    }

    /// Reads a layer out of a directory that stood on the layers of `parent`.
    pub fn read_upper(
        &self,
        upper: Upper<'_>,
        parent: Option<&Digest>,
    ) -> Result<ReadLayer, ImageError> {
        let chain = match parent {
            None => Vec::new(),
            Some(id) => {
                let image = self.read().images.get(id).cloned();
                let image = image.ok_or_else(|| ImageError::NoSuchImage(id.to_string()))?;
                image.chain.clone()
            }
        };
        let below = chain.iter().rev();
        let below = below.map(|layer| open_directory(&self.layers.path(&layer.hex()).join(DIFF)));
        let below: Vec<_> = below.collect::<Result<_, _>>()?;
        let in_image = |path: &[u8]| {
            let stat = |layer| rustix::fs::statat(layer, path, AtFlags::SYMLINK_NOFOLLOW).ok();
            let found = below.iter().find_map(|layer| stat(layer.as_fd()));
            found.is_some_and(|stat| !is_whiteout(&stat))
        };
        Ok(ReadLayer(from_upper(&self.layers, upper, &in_image)?))
    }

    /// Makes the image. A layer that changes nothing, or none at all, leaves no layer in it, only a line in its history.
    pub fn commit_layer(
        &self,
        layer: impl Into<Option<ReadLayer>>,
        request: CommitRequest,
    ) -> Result<Digest, ImageError> {
        let layer = layer.into().filter(|layer| !layer.is_empty());
        let mut document = self.ground(request.parent.as_ref(), request.platform.as_ref())?;
        let now = jiff::Timestamp::now().to_string();
        let created = request.created.unwrap_or(now);
        if let Some(layer) = &layer {
            push(&mut document["rootfs"]["diff_ids"], json!(layer.0.diff));
        }
        let mut step = json!({"created": created, "created_by": request.created_by});
        for (key, text) in [("author", &request.author), ("comment", &request.comment)] {
            if !text.is_empty() {
                step[key] = json!(text);
                document[key] = json!(text);
            }
        }
        if layer.is_none() {
            step["empty_layer"] = json!(true);
        }
        push(&mut document["history"], step);
        document["created"] = json!(created);
        document["config"] = Value::Object(request.config);
        if let Some(container) = request.container {
            document["container"] = json!(container.to_string());
        }
        let committed = self.commit(NewImage {
            config: document.to_string().into_bytes(),
            layers: layer
                .map(|ReadLayer(layer)| (layer.diff, Arc::new(layer)))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            parent: request.parent,
            references: request.references,
            holder: request.holder,
            ..NewImage::default()
        })?;
        Ok(committed.image.id)
    }

    /// What an image leaves to one that is made on top of it.
    pub(crate) fn ground(
        &self,
        parent: Option<&Digest>,
        platform: Option<&Platform>,
    ) -> Result<Value, ImageError> {
        let Some(parent) = parent else {
            let host = Platform::host();
            return Ok(from_nothing(platform.unwrap_or(&host)));
        };
        let bytes = self.config_bytes(parent)?;
        let parent: Value = serde_json::from_slice(&bytes).map_err(|error| {
            ImageError::Archive(format!("invalid image configuration: {error}"))
        })?;
        let mut document = from_nothing(&Platform {
            variant: None,
            ..Platform::host()
        });
        for key in [
            "architecture",
            "variant",
            "os",
            "os.version",
            "os.features",
            "rootfs",
            "history",
        ] {
            if let Some(value) = parent.get(key).filter(|value| !value.is_null()) {
                document[key] = value.clone();
            }
        }
        Ok(document)
    }
}

fn from_nothing(platform: &Platform) -> Value {
    let mut document = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    });
    if let Some(variant) = &platform.variant {
        document["variant"] = json!(variant);
    }
    document
}

/// Adds to a list, or begins one.
pub(crate) fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    } else {
        *list = json!([item]);
    }
}
