//! What the store keeps in memory so that lists and lookups need no IO, and the records behind it in the database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, Reference};
use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// Table of [`ImageRecord`]s by the hex digits of the image id.
pub const IMAGES: &str = "image";
/// Table of image ids by full reference.
pub const REFERENCES: &str = "reference";
/// Table of [`LayerRecord`]s by the hex digits of the chain id.
pub const LAYERS: &str = "layer";
/// Table of the last use of images, seconds since 1970, by the hex digits of the image id.
pub const USED: &str = "image-used";
/// Table of what names stand for besides one image, by full reference.
pub const SETS: &str = "image-set";
/// Table of the compressed forms of a layer by the hex digits of its diff id.
pub const FORMS: &str = "layer-form";

/// What is stored of an image beside its configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The image this one was committed or built from.
    #[serde(default)]
    pub parent: Option<Digest>,
    /// When a name was last given, RFC 3339.
    #[serde(default)]
    pub tagged: Option<String>,
    /// The manifest it came with.
    #[serde(default)]
    pub manifest: Option<KeptManifest>,
}

/// A manifest that is kept as it came, in `blobs/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptManifest {
    pub digest: Digest,
    pub media_type: String,
}

/// What is stored of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the plain tar stream.
    pub diff: Digest,
    /// Chain id of the layer below.
    pub parent: Option<Digest>,
    /// Bytes in files.
    pub size: u64,
    /// Bytes of the plain tar stream.
    pub tar_size: u64,
    /// Digest of the stream it came in, when that was compressed.
    #[serde(default)]
    pub blob: Option<Digest>,
    /// Found not to be what its name says; the next pull or load that brings it replaces it.
    #[serde(default)]
    pub damaged: bool,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    pub parent: Option<Digest>,
    /// Seconds since 1970.
    pub created: i64,
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
    /// Bytes in files of all layers.
    pub size: u64,
    /// Digests of the plain layer streams, lowest first.
    pub diffs: Vec<Digest>,
    /// Chain ids of the layers, lowest first.
    pub chain: Vec<Digest>,
    /// When a name was last given, RFC 3339.
    pub tagged: Option<String>,
    /// The manifest it came with.
    pub manifest: Option<KeptManifest>,
    /// Labels of the configuration.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// What is stored of it beside its configuration.
    pub(crate) fn record(&self) -> ImageRecord {
        ImageRecord {
            parent: self.parent,
            tagged: self.tagged.clone(),
            manifest: self.manifest.clone(),
        }
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }

    /// Refuses an image that is not for a platform somebody asked for.
    pub fn check_platform(&self, name: &str, wanted: Option<&Platform>) -> Result<(), ImageError> {
        match wanted {
            Some(wanted) if wanted.fit(&self.platform()).is_none() => {
                let (name, wanted) = (name.to_owned(), wanted.to_string());
                Err(ImageError::OtherPlatform(name, wanted))
            }
            _ => Ok(()),
        }
    }

    /// The chain id of all layers together; none for an image without layers.
    pub fn top(&self) -> Option<Digest> {
        self.chain.last().copied()
    }
}

/// An image with its names.
#[derive(Clone, Debug)]
pub struct NamedImage {
    pub image: Arc<Image>,
    /// Tags and digests, in order.
    pub references: Vec<Reference>,
}

impl NamedImage {
    /// `busybox:latest`, ...
    pub fn tags(&self) -> Vec<String> {
        let tagged = self.references.iter().filter(|one| one.digest().is_none());
        tagged.map(Reference::familiar).collect()
    }

    /// `busybox@sha256:...`, ...
    pub fn digests(&self) -> Vec<String> {
        let digests = self.references.iter().filter(|one| one.digest().is_some());
        digests.map(Reference::familiar).collect()
    }
}

/// Everything in memory.
#[derive(Debug, Default)]
pub struct Model {
    pub images: BTreeMap<Digest, Arc<Image>>,
    pub references: BTreeMap<Reference, Digest>,
    /// Names that stand for several images; each leads to one of these.
    pub sets: BTreeMap<Reference, Vec<Digest>>,
    pub layers: HashMap<Digest, LayerRecord>,
    /// Read/write layers, and the chain id each stands on.
    pub containers: HashMap<ContainerId, Option<Digest>>,
    /// Chain ids whose layers are being read, by a number of the reader.
    pub pins: HashMap<u64, Digest>,
    /// Images that must stay, by the number of who needs them.
    pub held: HashMap<u64, HashSet<Digest>>,
    /// When images were last used, seconds since 1970.
    pub used: HashMap<Digest, i64>,
}

impl Model {
    /// The names of an image in order.
    pub fn references_of(&self, image: &Digest) -> Vec<Reference> {
        let own = self.references.iter().filter(|(_, id)| *id == image);
        own.map(|(reference, _)| reference.clone()).collect()
    }

    /// An image with its names.
    pub fn named(&self, image: &Arc<Image>) -> NamedImage {
        NamedImage {
            image: image.clone(),
            references: self.references_of(&image.id),
        }
    }

    /// Chain ids from `top` down to the lowest layer.
    pub fn chain_down(&self, top: Option<Digest>) -> Vec<Digest> {
        let mut chain = Vec::new();
        let mut next = top;
        while let Some(id) = next {
            chain.push(id);
            next = self.layers.get(&id).and_then(|layer| layer.parent);
        }
        chain
    }

    /// Keeps the layers from `top` down; answers the number of the pin.
    pub fn add_pin(&mut self, top: Digest) -> u64 {
        let number = self.pins.keys().max().map_or(0, |last| last + 1);
        self.pins.insert(number, top);
        number
    }

    /// Removes layers and answers the diff ids that no layer has any more.
    pub fn remove_layers(&mut self, chains: &[Digest]) -> Vec<Digest> {
        let removed: Vec<_> = chains
            .iter()
            .filter_map(|chain| self.layers.remove(chain))
            .map(|layer| layer.diff)
            .collect();
        let gone = |diff: &Digest| self.layers.values().all(|layer| layer.diff != *diff);
        removed.into_iter().filter(gone).collect()
    }

    /// Whether a layer is there and not known to be damaged.
    pub fn is_whole(&self, chain: &Digest) -> bool {
        self.layers.get(chain).is_some_and(|layer| !layer.damaged)
    }

    /// Layers from `top` down that no image, no container and no other layer stands on, once image `without` is gone.
    pub fn orphans(&self, top: Option<Digest>, without: Option<&Digest>) -> Vec<Digest> {
        let mut used = std::collections::HashSet::new();
        let images = self.images.values();
        let tops = images
            .filter(|image| Some(&image.id) != without)
            .filter_map(|image| image.top())
            .chain(self.containers.values().copied().flatten())
            .chain(self.pins.values().copied());
        for top in tops {
            used.extend(self.chain_down(Some(top)));
        }
        let mut orphans = self.chain_down(top);
        orphans.retain(|layer| !used.contains(layer));
        orphans
    }
}
