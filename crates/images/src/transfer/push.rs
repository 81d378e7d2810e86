//! The sending side: what an image is made of, and its layers as compressed streams.

use std::any::Any;
use std::io::Write;
use std::sync::Arc;

use cais_state::Durability;
use cais_types::oci::{Descriptor, ImageSet, Platform};
use cais_types::{Digest, Reference};

use super::compress::{Compression, compress};
use super::form::Form;
use crate::error::ImageError;
use crate::model::{LAYERS, REFERENCES};
use crate::snapshot::Pin;
use crate::store::Store;

/// A layer of an image to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingLayer {
    pub chain: Digest,
    pub diff: Digest,
    /// Bytes of the plain tar stream.
    pub tar_size: u64,
    /// Compressed forms that are known, the most recent first.
    pub forms: Vec<Form>,
}

/// An image to be sent; its layers stay as long as the pin lives.
pub struct Outgoing {
    pub id: Digest,
    pub platform: Platform,
    pub config: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<OutgoingLayer>,
    /// The manifest it came with, and its media type.
    pub manifest: Option<(Vec<u8>, String)>,
    pub pin: Box<dyn Any + Send + Sync>,
}

impl Store {
    /// Finds an image by name, of several platforms the one that is wanted, and keeps its layers.
    pub fn outgoing(
        self: &Arc<Self>,
        name: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Outgoing, ImageError> {
        let id = {
            let model = self.read();
            if !model.references.contains_key(name) {
                return Err(no_such_name(&model.references, name));
            }
            model.find_for(&name.to_string(), platform)?.id
        };
        self.outgoing_image(&id)
    }

    /// All that a name stands for, with the layers of each image kept; none for a name of one image as it is.
    pub fn outgoing_set(
        self: &Arc<Self>,
        name: &Reference,
    ) -> Result<Option<(ImageSet, Vec<Outgoing>)>, ImageError> {
        let Some(set) = self.set(name)? else {
            return Ok(None);
        };
        let images = set.members.iter();
        let images = images.map(|one| self.outgoing_image(&one.image));
        let images = images.collect::<Result<_, _>>()?;
        Ok(Some((set, images)))
    }

    fn outgoing_image(self: &Arc<Self>, id: &Digest) -> Result<Outgoing, ImageError> {
        let (image, layers, pin) = {
            let mut model = self.write();
            let image = model.images.get(id).cloned();
            let image = image.ok_or_else(|| ImageError::NoSuchImage(id.to_string()))?;
            let layers: Option<Vec<_>> = image
                .chain
                .iter()
                .map(|chain| Some((*chain, model.layers.get(chain)?.clone())))
                .collect();
            let layers = layers
                .ok_or_else(|| ImageError::Damaged(image.id.to_string(), "no layers".into()))?;
            let pin = image.top().map(|top| model.add_pin(top));
            (image, layers, pin)
        };
        let pin = pin.map(|number| Pin::new(Arc::clone(self), number));
        let layers = layers.into_iter().map(|(chain, layer)| {
            Ok(OutgoingLayer {
                chain,
                diff: layer.diff,
                tar_size: layer.tar_size,
                forms: self.forms(&layer.diff)?,
            })
        });
        let layers = layers.collect::<Result<_, ImageError>>()?;
        let manifest = image.manifest.as_ref().map(|kept| {
            let bytes = self.content.get(&kept.digest)?;
            Ok::<_, ImageError>((bytes, kept.media_type.clone()))
        });
        Ok(Outgoing {
            id: image.id,
            platform: image.platform(),
            config: self.content.get(&image.id)?,
            layers,
            // Without it the image is sent with a manifest of our own.
            manifest: manifest.and_then(Result::ok),
            pin: Box::new(pin),
        })
    }

    /// Names of a repository (`domain/path`) that have a tag, in order.
    pub fn tags_of(&self, repository: &str) -> Vec<Reference> {
        let model = self.read();
        let names = model.references.keys();
        names
            .filter(|name| name.tag().is_some() && name.name() == repository)
            .cloned()
            .collect()
    }

    /// Writes a layer, compressed; the same layer and compression make the same bytes on every machine. Answers what was
    /// written. A layer that is found to be damaged is marked so.
    pub fn write_layer(
        &self,
        chain: &Digest,
        diff: &Digest,
        compression: Compression,
        out: &mut (dyn Write + Send),
    ) -> Result<Descriptor, ImageError> {
        cais_sys::failpoint::reach("push-layer");
        let written = compress(compression, out, |mut plain| {
            self.layers
                .write_tar(&chain.hex(), diff, &mut plain)
                .map(drop)
        });
        if let Err(ImageError::Damaged(..) | ImageError::Verification { .. }) = &written {
            self.mark_damaged(chain)?;
        }
        written
    }

    /// Marks a layer as damaged: the next pull or load that brings it replaces it.
    pub fn mark_damaged(&self, chain: &Digest) -> Result<(), ImageError> {
        let _changing = self.changing();
        let Some(mut record) = self.read().layers.get(chain).cloned() else {
            return Ok(());
        };
        record.damaged = true;
        self.db
            .put_with_reserve(Durability::Process, LAYERS, &chain.hex(), &record)?;
        self.write().layers.insert(*chain, record);
        Ok(())
    }

    /// Gives an image the digest that a registry has it by, `repository@digest`.
    pub fn pushed(&self, id: &Digest, digest: &Reference) -> Result<(), ImageError> {
        let _changing = self.changing();
        cais_sys::failpoint::reach("push-name");
        // An image that was removed meanwhile gets no name.
        if !self.read().images.contains_key(id) {
            return Ok(());
        }
        self.db
            .put_with_reserve(Durability::Process, REFERENCES, &digest.to_string(), id)?;
        self.write().references.insert(digest.clone(), *id);
        Ok(())
    }
}

fn no_such_name(
    known: &std::collections::BTreeMap<Reference, Digest>,
    name: &Reference,
) -> ImageError {
    let same = known.keys().any(|one| one.name() == name.name());
    ImageError::NoSuchTag(if same {
        format!("tag does not exist: {}", name.familiar())
    } else {
        let name = name.familiar_name();
        format!("An image does not exist locally with the tag: {name}")
    })
}
