//! The image store: opening it, and the state its other files work on.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cais_state::{Changes, Db, Durability, StateError};
use cais_types::{Digest, Reference};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::config::ImageConfig;
use crate::content::Content;
use crate::durability::Syncer;
use crate::error::ImageError;
use crate::layers::unpack::Limits;
use crate::layers::{LayerDirectory, chain_ids, open_directory};
use crate::model::{FORMS, IMAGES, Image, ImageRecord, LAYERS, Model, USED};

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
