//! The image store: opening it, committing images, and the state its other files work on.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cais_state::{Changes, Db, Durability, StateError};
use cais_sys::failpoint;
use cais_types::{Digest, Reference};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::config::ImageConfig;
use crate::content::Content;
use crate::durability::{Syncer, UNSYNCED, Unsynced};
use crate::error::ImageError;
use crate::layers::unpack::{Limits, UnpackedLayer, unpack};
use crate::layers::{LayerDirectory, chain_id, chain_ids, open_directory};
use crate::model::{
    FORMS, IMAGES, Image, ImageRecord, KeptManifest, LAYERS, LayerRecord, Model, REFERENCES, USED,
};
use crate::placed::{Placed, PlacedLayer};
use crate::set::forget_sets;
use crate::transfer::SeenForm;

/// All images, their layers, and the read/write layers of containers on them. Calls block; share it behind an `Arc`.
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) db: Arc<Db>,
    pub(crate) content: Content,
    pub(crate) layers: Arc<LayerDirectory>,
    /// `containers/`.
    pub(crate) containers: OwnedFd,
    model: RwLock<Model>,
    /// Held over every change of images, names and layers; lists never take it.
    change: Mutex<()>,
    /// Chain ids whose init layer is known to be there.
    pub(crate) prepared: Mutex<std::collections::HashSet<Option<Digest>>>,
    pub(crate) limits: Limits,
    pub(crate) syncer: Syncer,
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
    /// Opens the store below `data_root`, makes its directories, deletes what is half there, and forgets images whose
    /// layers are missing (with a warning in the log).
    pub fn open(data_root: &Path, db: Arc<Db>) -> Result<Self, ImageError> {
        for (name, mode) in [
            ("", 0o710),
            ("blobs", 0o700),
            ("blobs/sha256", 0o700),
            ("layers", 0o710),
            ("containers", 0o710),
        ] {
            make_directory(&data_root.join(name), mode)?;
        }
        let layers = Arc::new(LayerDirectory::open(data_root.join("layers"))?);
        let containers = open_directory(&data_root.join("containers"))?;
        cais_sys::tree::spread(&containers);
        let store = Self {
            root: data_root.to_owned(),
            content: Content::new(open_directory(&data_root.join("blobs/sha256"))?),
            syncer: Syncer::start(layers.clone(), db.clone())?,
            layers,
            containers,
            model: RwLock::default(),
            change: Mutex::default(),
            prepared: Mutex::default(),
            limits: Limits::default(),
            db,
        };
        store.restore()?;
        Ok(store)
    }

    /// Sets other bounds against archive bombs.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The configuration of an image as it came.
    pub fn config_bytes(&self, image: &Digest) -> Result<Vec<u8>, ImageError> {
        self.content.get(image)
    }

    /// The configuration of an image.
    pub fn config(&self, image: &Digest) -> Result<ImageConfig, ImageError> {
        parse_config(&self.content.get(image)?)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Model> {
        self.model.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only one change of what is there at a time.
    pub(crate) fn changing(&self) -> Changing<'_> {
        let lock = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        Changing {
            layers: &self.layers,
            lock: Some(lock),
        }
    }

    /// Makes an image and its layers visible: all of it or nothing, also when the daemon dies, or the machine.
    pub(crate) fn commit(&self, new: NewImage) -> Result<Committed, ImageError> {
        let config = parse_config(&new.config)?;
        let diffs = config.rootfs.diff_ids.clone().unwrap_or_default();
        if !new.layers.is_empty() {
            failpoint::reach("commit-unsynced");
        }
        let _changing = self.changing();
        let mut placed = Placed::new(self);
        self.place(&diffs, new.layers, &mut placed)?;
        failpoint::reach("commit-placed");
        let id = placed.document(&new.config)?;
        let manifest = new.manifest.map(|(bytes, media_type)| {
            let digest = placed.document(&bytes)?;
            Ok::<_, ImageError>(KeptManifest { digest, media_type })
        });
        let manifest = manifest.transpose()?;
        let existing = self.read().images.get(&id).cloned();
        let record = existing.as_ref().map(|image| image.record());
        let mut record = record.unwrap_or_default();
        record.parent = record.parent.or(new.parent);
        let replaced_manifest = record
            .manifest
            .take_if(|old| manifest.as_ref().is_some_and(|new| new != old));
        record.manifest = manifest.or(record.manifest);
        let unchanged = existing.is_some()
            && placed.layers.is_empty()
            && replaced_manifest.is_none()
            && self.has_names(&new.references, &id);
        if !new.references.is_empty() && !unchanged {
            record.tagged = Some(jiff::Timestamp::now().to_string());
        }
        let forms = self.with_forms(&new.forms)?;
        let fresh = !placed.layers.is_empty() || existing.is_none() || replaced_manifest.is_some();
        let layers = placed.layers.iter().map(|placed| placed.chain);
        let unsynced = Unsynced::new(&self.read(), id, layers.collect(), &new.references);
        let key = unsynced.key();
        let durability = if fresh {
            Durability::Process
        } else {
            Durability::Power
        };
        failpoint::reach("commit-before-record");
        self.db.transaction(durability, |changes| {
            if fresh {
                changes.put(UNSYNCED, &key, &unsynced)?;
            }
            for placed in &placed.layers {
                changes.put(LAYERS, &placed.chain.hex(), &placed.record)?;
            }
            for (diff, forms) in &forms {
                changes.put(FORMS, &diff.hex(), forms)?;
            }
            changes.put(IMAGES, &id.hex(), &record)?;
            for reference in &new.references {
                changes.put(REFERENCES, &reference.to_string(), &id)?;
            }
            forget_sets(changes, &new.references)
        })?;
        let layers = placed.recorded();
        failpoint::reach("commit-recorded");
        if fresh {
            self.syncer.add(key);
        }
        if let Some(old) = replaced_manifest
            && let Err(error) = self.content.remove(&old.digest)
        {
            tracing::warn!(%error, digest = %old.digest, "a replaced manifest could not be deleted");
        }
        let mut model = self.write();
        let layers = layers.into_iter();
        model
            .layers
            .extend(layers.map(|placed| (placed.chain, placed.record)));
        let image = Arc::new(describe(&model, id, &config, record)?);
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
        drop(model);
        self.mark_used(&id);
        Ok(Committed {
            image,
            renamed,
            unchanged,
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

    /// Forgets an image and deletes the layers that nothing else stands on; answers their chain ids. The caller holds
    /// [`Store::changing`].
    pub(crate) fn delete_image(&self, image: &Image) -> Result<Vec<Digest>, ImageError> {
        // Out of memory first and in one step: no container can be made on it from here on.
        let (orphans, unknown) = {
            let mut model = self.write();
            let orphans = model.orphans(image.top(), Some(&image.id));
            model.images.remove(&image.id);
            model.used.remove(&image.id);
            let unknown = model.remove_layers(&orphans);
            (orphans, unknown)
        };
        self.db
            .transaction_with_reserve(Durability::Process, |changes| {
                changes.delete(IMAGES, &image.id.hex())?;
                changes.delete(USED, &image.id.hex())?;
                delete_layers(changes, &orphans, &unknown)
            })?;
        self.forget_layers(&orphans)?;
        self.content.remove(&image.id)?;
        if let Some(manifest) = &image.manifest {
            self.content.remove(&manifest.digest)?;
        }
        Ok(orphans)
    }

    /// Deletes the directories of layers that have no record any more, when [`Store::changing`] ends.
    pub(crate) fn forget_layers(&self, layers: &[Digest]) -> Result<(), ImageError> {
        for layer in layers {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.remove(&Some(*layer));
            drop(prepared);
            self.layers.hide(&layer.hex())?;
        }
        Ok(())
    }
}

/// The right to change the store. What was removed under it is deleted from the disk after it was given back, as that takes long.
pub(crate) struct Changing<'a> {
    layers: &'a LayerDirectory,
    lock: Option<MutexGuard<'a, ()>>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Before the next one can hide something.
        let hidden = self.layers.take_hidden();
        drop(self.lock.take());
        for name in hidden {
            if let Err(error) = self.layers.delete(&name) {
                tracing::warn!(%error, "a layer that was removed stays on the disk until the next start");
            }
        }
    }
}

/// Deletes the records of layers, and what is known of the compressed forms of `diffs`.
pub(crate) fn delete_layers(
    changes: &Changes<'_>,
    chains: &[Digest],
    diffs: &[Digest],
) -> Result<(), StateError> {
    for chain in chains {
        changes.delete(LAYERS, &chain.hex())?;
    }
    for diff in diffs {
        changes.delete(FORMS, &diff.hex())?;
    }
    Ok(())
}

/// Reads a configuration; layers must be named.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ImageError> {
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Archive(format!("invalid image configuration: {error}")))?;
    if config.rootfs.diff_ids.is_none() {
        let text = "invalid image JSON, no RootFS key";
        return Err(ImageError::Archive(text.to_owned()));
    }
    Ok(config)
}

pub(crate) fn describe(
    model: &Model,
    id: Digest,
    config: &ImageConfig,
    record: ImageRecord,
) -> Result<Image, ImageError> {
    let diffs = config.rootfs.diff_ids.clone().unwrap_or_default();
    let chain = chain_ids(&diffs);
    let mut size = 0;
    for next in &chain {
        let Some(layer) = model.layers.get(next) else {
            return Err(ImageError::Damaged(next.hex(), "missing".to_owned()));
        };
        size += layer.size;
    }
    Ok(Image {
        id,
        parent: record.parent,
        created: config.created_seconds(),
        os: Some(config.os.clone())
            .filter(|os| !os.is_empty())
            .unwrap_or_else(|| "linux".into()),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().filter(|variant| !variant.is_empty()),
        size,
        diffs,
        chain,
        tagged: record.tagged,
        manifest: record.manifest,
        labels: config.labels(),
    })
}

pub(crate) fn digest_of(hex: &str) -> Result<Digest, ImageError> {
    let digest = format!("sha256:{hex}").parse();
    digest.map_err(|_| ImageError::Damaged(hex.to_owned(), "its name is no digest".to_owned()))
}

pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), ImageError> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdir(path, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(ImageError::io("mkdir", path, errno)),
    }
    rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
        .map_err(|errno| ImageError::io("chmod", path, errno))
}

/// References by image for callers that show many images.
pub(crate) fn by_image(
    references: &BTreeMap<Reference, Digest>,
) -> HashMap<Digest, Vec<Reference>> {
    let mut by_image: HashMap<Digest, Vec<Reference>> = HashMap::new();
    for (reference, image) in references {
        by_image.entry(*image).or_default().push(reference.clone());
    }
    by_image
}
