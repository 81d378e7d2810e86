//! Names of several images in archives: an index, its manifests, and layers as registries get them, so that an archive can be copied to
//! one without a digest changing that something is attested of.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use cais_types::oci::set::Encoded;
use cais_types::oci::{Descriptor, ImageSet, Member, media_type};
use cais_types::{Digest, Reference};
use serde_json::{Value, json};

use super::manifest::{NAME, REF_NAME};
use super::save::{Blob, Blobs};
use crate::error::ImageError;
use crate::model::Image;
use crate::store::Store;
use crate::transfer::{PushCompression as Compression, SeenForm};

/// A manifest of the index that a name stands for, as [`Store::save`] writes it.
pub struct SetManifest {
    pub descriptor: Descriptor,
    /// Bytes of the manifest and of what it names; layers as tar streams.
    pub size: u64,
    /// The image it is of, or that it attests something of.
    pub image: Arc<Image>,
    /// The manifest that it attests something of.
    pub about: Option<Digest>,
}

/// How layers are laid into an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// Compressed.
    Compressed,
    /// Compressed where it is known what that makes of them; else plain.
    Known,
}

/// What a name stands for, as it is in an archive.
pub(super) struct SavedSet {
    /// What leads to it.
    pub descriptor: Value,
    /// The layers of each image, lowest first.
    layers: Vec<(Digest, Vec<Descriptor>)>,
}

impl SavedSet {
    /// The layers of an image.
    pub fn layers_of(&self, image: &Digest) -> Vec<Descriptor> {
        let own = self.layers.iter().find(|(id, _)| id == image);
        own.map_or_else(Vec::new, |(_, layers)| layers.clone())
    }
}

impl Store {
    /// Collects the blobs of all that a name stands for; answers what leads to it.
    pub(super) fn describe_set(
        &self,
        name: &Reference,
        set: &ImageSet,
        blobs: &mut Blobs,
    ) -> Result<SavedSet, ImageError> {
        let (mut documents, mut layers) = (Vec::new(), Vec::new());
        for member in &set.members {
            let (document, own) = self.member_manifest(member, Form::Compressed, blobs)?;
            documents.push((member, document));
            layers.push((member.image, own));
        }
        let mut keep = |document: Encoded| {
            let digest = document.descriptor.digest;
            blobs.insert(digest, Blob::Document(document.bytes));
            document.descriptor
        };
        let (mut manifests, mut attestations) = (Vec::new(), Vec::new());
        for (member, document) in documents {
            if let Some(attestation) = member.attestation(name, &document.descriptor) {
                for blob in attestation.blobs {
                    keep(blob);
                }
                attestations.push(keep(attestation.manifest));
            }
            manifests.push(keep(document));
        }
        let mut descriptor = match &manifests[..] {
            [only] if !set.is_index() => only.clone(),
            _ => keep(set.index([manifests, attestations].concat())),
        };
        let annotations = descriptor.annotations.get_or_insert_default();
        annotations.insert(NAME.to_owned(), name.to_string());
        let tag = name.tag().unwrap_or_default().to_owned();
        annotations.insert(REF_NAME.to_owned(), tag);
        Ok(SavedSet {
            descriptor: json!(descriptor),
            layers,
        })
    }

    /// The manifests of the index that a name stands for; none where it is no index.
    pub fn set_manifests(&self, name: &Reference) -> Result<Vec<SetManifest>, ImageError> {
        let set = self.set(name)?.filter(ImageSet::is_index);
        let (mut images, mut attestations) = (Vec::new(), Vec::new());
        for member in set.iter().flat_map(|set| &set.members) {
            let mut blobs = BTreeMap::new();
            let (document, _) = self.member_manifest(member, Form::Known, &mut blobs)?;
            let image = self.resolve(&member.image.to_string())?;
            if let Some(attestation) = member.attestation(name, &document.descriptor) {
                let blobs = attestation.blobs.iter().map(|blob| blob.descriptor.size);
                attestations.push(SetManifest {
                    size: attestation.manifest.descriptor.size + blobs.sum::<u64>(),
                    descriptor: attestation.manifest.descriptor,
                    image: image.clone(),
                    about: Some(document.descriptor.digest),
                });
            }
            let sizes = blobs.values().map(|blob| match blob {
                Blob::Document(bytes) => bytes.len() as u64,
                Blob::Layer { size, .. } => *size,
            });
            images.push(SetManifest {
                size: document.descriptor.size + sizes.sum::<u64>(),
                descriptor: document.descriptor,
                image,
                about: None,
            });
        }
        images.append(&mut attestations);
        Ok(images)
    }

    /// The manifest of an image of a set, and its blobs.
    fn member_manifest(
        &self,
        member: &Member,
        form: Form,
        blobs: &mut Blobs,
    ) -> Result<(Encoded, Vec<Descriptor>), ImageError> {
        let image = self.read().images.get(&member.image).cloned();
        let image = image.ok_or_else(|| ImageError::NoSuchImage(member.image.to_string()))?;
        let (config, layers) = self.blobs_of(&image, form, blobs)?;
        let manifest = member.manifest(config, layers.clone(), image.platform());
        Ok((manifest, layers))
    }

    /// Collects the configuration and the layers of an image.
    pub(super) fn blobs_of(
        &self,
        image: &Image,
        form: Form,
        blobs: &mut Blobs,
    ) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let config = self.content.get(&image.id)?;
        let mut layers = Vec::new();
        for (diff, chain) in image.diffs.iter().zip(&image.chain) {
            let size = self.read().layers.get(chain).map(|layer| layer.tar_size);
            let size =
                size.ok_or_else(|| ImageError::Damaged(chain.hex(), "missing".to_owned()))?;
            let plain = Descriptor::new(media_type::LAYER, *diff, size);
            let layer = self.in_form(chain, plain, form)?;
            blobs.entry(layer.digest).or_insert(Blob::Layer {
                chain: *chain,
                diff: *diff,
                size: layer.size,
                compressed: layer.media_type != media_type::LAYER,
            });
            layers.push(layer);
        }
        let descriptor = Descriptor::new(media_type::CONFIG, image.id, config.len() as u64);
        blobs.insert(image.id, Blob::Document(config));
        Ok((descriptor, layers))
    }

    /// A layer as it is saved.
    fn in_form(
        &self,
        chain: &Digest,
        plain: Descriptor,
        form: Form,
    ) -> Result<Descriptor, ImageError> {
        if form == Form::Plain {
            return Ok(plain);
        }
        let diff = plain.digest;
        let known = self.forms(&diff)?;
        let known = known
            .iter()
            .find(|form| form.reproducible() && form.is_gzip());
        let (digest, size) = match known {
            Some(known) => (known.digest, known.size),
            None if form == Form::Known => return Ok(plain),
            None => {
                let blob = self.write_layer(chain, &diff, Compression::Gzip, &mut io::sink())?;
                let made = (blob.digest, blob.size);
                self.remember_form(&SeenForm {
                    diff,
                    blob,
                    repository: String::new(),
                    reproducible: true,
                })?;
                made
            }
        };
        Ok(Descriptor::new(media_type::LAYER_GZIP, digest, size))
    }

    /// Writes a layer, compressed, which must become what was announced.
    pub(super) fn write_compressed(
        &self,
        chain: &Digest,
        diff: &Digest,
        digest: &Digest,
        out: &mut (dyn Write + Send),
    ) -> Result<(), ImageError> {
        let written = self.write_layer(chain, diff, Compression::Gzip, out)?;
        if written.digest == *digest {
            return Ok(());
        }
        Err(ImageError::Verification {
            what: "layer",
            want: digest.to_string(),
            have: written.digest.to_string(),
        })
    }
}
