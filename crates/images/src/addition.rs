//! Adding images: their layers and documents are put in place, then recorded, then seen.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError};

use cais_state::Durability;
use cais_sys::failpoint;
use cais_types::{Digest, Reference};

use crate::config::ImageConfig;
use crate::durability::{UNSYNCED, Unsynced};
use crate::error::ImageError;
use crate::layers::chain_id;
use crate::layers::unpack::{UnpackedLayer, unpack};
use crate::model::{
    FORMS, IMAGES, Image, ImageRecord, KeptManifest, LAYERS, LayerRecord, REFERENCES,
};
use crate::placed::{Placed, PlacedLayer};
use crate::set::forget_sets;
use crate::store::{Store, describe, parse_config};
use crate::transfer::SeenForm;

/// What a commit changes of the record of an image.
struct Change {
    record: ImageRecord,
    /// The manifest that gives way.
    replaced: Option<KeptManifest>,
    /// The image was there, and has nothing new.
    unchanged: bool,
    /// Something has to come to the disk.
    fresh: bool,
}

impl Change {
    fn new(
        store: &Store,
        id: &Digest,
        new: &NewImage,
        manifest: Option<KeptManifest>,
        layers: &[PlacedLayer],
    ) -> Self {
        let existing = store.read().images.get(id).cloned();
        let record = existing.as_ref().map(|image| image.record());
        let mut record = record.unwrap_or_default();
        record.parent = record.parent.or(new.parent);
        let replaced = record
            .manifest
            .take_if(|old| manifest.as_ref().is_some_and(|new| new != old));
        record.manifest = manifest.or(record.manifest);
        let fresh = !layers.is_empty() || existing.is_none() || replaced.is_some();
        let unchanged = !fresh && store.has_names(&new.references, id);
        if !new.references.is_empty() && !unchanged {
            record.tagged = Some(jiff::Timestamp::now().to_string());
        }
        Self {
            record,
            replaced,
            unchanged,
            fresh,
        }
    }
}

/// An image about to be committed.
#[derive(Default)]
pub(crate) struct NewImage {
    pub config: Vec<u8>,
    /// The layers of `rootfs.diff_ids` that were unpacked for it, by diff id.
    pub layers: HashMap<Digest, Arc<UnpackedLayer>>,
    pub parent: Option<Digest>,
    pub references: Vec<Reference>,
    /// Number of the holder that keeps it.
    pub holder: Option<u64>,
    /// The manifest it came with, and its media type.
    pub manifest: Option<(Vec<u8>, String)>,
    /// Compressed forms of its layers that were seen, and the repository that has them.
    pub forms: Vec<SeenForm>,
}

/// A committed image, and which images lost a name to it.
pub(crate) struct Committed {
    pub image: Arc<Image>,
    pub renamed: Vec<(Reference, Digest)>,
    /// Whether the image was there, whole and with these names.
    pub unchanged: bool,
}

impl Store {
    /// Makes an image and its layers visible: all of it or nothing, also when the daemon dies, or the machine.
    pub(crate) fn commit(&self, mut new: NewImage) -> Result<Committed, ImageError> {
        let config = parse_config(&new.config)?;
        let diffs = config.rootfs.diff_ids.clone().unwrap_or_default();
        if !new.layers.is_empty() {
            failpoint::reach("commit-unsynced");
        }
        let _changing = self.changing();
        let mut placed = Placed::new(self);
        self.place(&diffs, std::mem::take(&mut new.layers), &mut placed)?;
        failpoint::reach("commit-placed");
        let id = placed.document(&new.config)?;
        let manifest = new.manifest.take().map(|(bytes, media_type)| {
            let digest = placed.document(&bytes)?;
            Ok::<_, ImageError>(KeptManifest { digest, media_type })
        });
        let change = Change::new(self, &id, &new, manifest.transpose()?, &placed.layers);
        let unsynced = self.record(&id, &change, &new, &placed.layers)?;
        let layers = placed.recorded();
        failpoint::reach("commit-recorded");
        if let Some(key) = unsynced {
            self.syncer.add(key);
        }
        if let Some(old) = &change.replaced
            && let Err(error) = self.content.remove(&old.digest)
        {
            tracing::warn!(%error, digest = %old.digest, "a replaced manifest could not be deleted");
        }
        let committed = self.remember((id, &config), change, new, layers)?;
        self.mark_used(&id);
        Ok(committed)
    }

    /// Writes down what changes; answers the key of what has to come to the disk, if something has.
    fn record(
        &self,
        id: &Digest,
        change: &Change,
        new: &NewImage,
        layers: &[PlacedLayer],
    ) -> Result<Option<String>, ImageError> {
        let forms = self.with_forms(&new.forms)?;
        let chains = layers.iter().map(|placed| placed.chain).collect();
        let unsynced = Unsynced::new(&self.read(), *id, chains, &new.references);
        let key = change.fresh.then(|| unsynced.key());
        let durability = if change.fresh {
            Durability::Process
        } else {
            Durability::Power
        };
        failpoint::reach("commit-before-record");
        self.db.transaction(durability, |changes| {
            if let Some(key) = &key {
                changes.put(UNSYNCED, key, &unsynced)?;
            }
            for placed in layers {
                changes.put(LAYERS, &placed.chain.hex(), &placed.record)?;
            }
            for (diff, forms) in &forms {
                changes.put(FORMS, &diff.hex(), forms)?;
            }
            changes.put(IMAGES, &id.hex(), &change.record)?;
            for reference in &new.references {
                changes.put(REFERENCES, &reference.to_string(), id)?;
            }
            forget_sets(changes, &new.references)
        })?;
        Ok(key)
    }

    /// Makes the model agree with the record.
    fn remember(
        &self,
        (id, config): (Digest, &ImageConfig),
        change: Change,
        new: NewImage,
        layers: Vec<PlacedLayer>,
    ) -> Result<Committed, ImageError> {
        let mut model = self.write();
        let layers = layers.into_iter();
        model
            .layers
            .extend(layers.map(|placed| (placed.chain, placed.record)));
        let image = Arc::new(describe(&model, id, config, change.record)?);
        model.images.insert(id, image.clone());
        if let Some(held) = new.holder.and_then(|number| model.held.get_mut(&number)) {
            held.insert(id);
        }
        let mut renamed = Vec::new();
        for reference in new.references {
            model.sets.remove(&reference);
            let before = model.references.insert(reference.clone(), id);
            renamed.extend(before.filter(|old| *old != id).map(|old| (reference, old)));
        }
        Ok(Committed {
            image,
            renamed,
            unchanged: change.unchanged,
        })
    }

    fn has_names(&self, names: &[Reference], id: &Digest) -> bool {
        let model = self.read();
        names
            .iter()
            .all(|name| model.references.get(name) == Some(id))
    }

    /// Gives layers their names, from what was unpacked or from the same layer in another place.
    fn place(
        &self,
        diffs: &[Digest],
        unpacked: HashMap<Digest, Arc<UnpackedLayer>>,
        placed: &mut Placed<'_>,
    ) -> Result<(), ImageError> {
        let mut parent = None;
        for diff in diffs {
            let chain = chain_id(parent.as_ref(), diff);
            let whole = self.read().is_whole(&chain)
                || placed.layers.iter().any(|other| other.chain == chain);
            if !whole {
                let fresh = !self.read().layers.contains_key(&chain);
                let give = |layer: &UnpackedLayer| match fresh {
                    true => layer.publish(&chain.hex()),
                    false => self.replace_layer(&chain, layer),
                };
                let mut layer = unpacked.get(diff).cloned();
                let given = layer.as_deref().map(give).transpose()?;
                if given != Some(true) {
                    let copy = self.copy_layer(diff, placed)?;
                    give(&copy)?;
                    layer = Some(Arc::new(copy));
                }
                let Some(layer) = layer else { continue };
                let record = LayerRecord {
                    diff: *diff,
                    parent,
                    size: layer.size,
                    tar_size: layer.tar_size,
                    blob: Some(layer.blob).filter(|blob| blob != diff),
                    damaged: false,
                };
                placed.layers.push(PlacedLayer {
                    chain,
                    record,
                    fresh,
                });
            }
            parent = Some(chain);
        }
        Ok(())
    }

    /// Puts a layer in the place of a damaged one. Containers that run on the old one keep its files until the next start.
    fn replace_layer(&self, chain: &Digest, layer: &UnpackedLayer) -> Result<bool, ImageError> {
        let model = self.read();
        let tops = model.containers.values().copied();
        let in_use = tops
            .flatten()
            .any(|top| model.chain_down(Some(top)).contains(chain));
        drop(model);
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.remove(&Some(*chain));
        layer.replace(&chain.hex(), in_use)
    }

    /// Unpacks a layer again that the store has on top of other layers.
    fn copy_layer(&self, diff: &Digest, placed: &Placed<'_>) -> Result<UnpackedLayer, ImageError> {
        let model = self.read();
        let stored = model.layers.iter().map(|(chain, layer)| (*chain, layer));
        let stored = stored.filter(|(_, layer)| !layer.damaged);
        let fresh = placed.layers.iter().map(|one| (one.chain, &one.record));
        let source = stored.chain(fresh).find(|(_, layer)| layer.diff == *diff);
        let Some((source, _)) = source else {
            return Err(ImageError::Archive(format!("layer {diff} is missing")));
        };
        drop(model);
        let fail = |error: io::Error| ImageError::io("pipe", "layer", error);
        let (from, mut to) = io::pipe().map_err(fail)?;
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || self.layers.write_tar(&source.hex(), diff, &mut to));
            let layer = unpack(&self.layers, from, self.limits).and_then(|one| one.finish());
            match writer.join() {
                Ok(Ok(_)) => layer,
                Ok(Err(error)) => Err(layer.err().unwrap_or(error)),
                Err(_) => Err(ImageError::Damaged(source.hex(), "reader panicked".into())),
            }
        })
    }
}
