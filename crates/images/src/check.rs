//! Looking whether the store is whole: every document against its digest, every layer by making its tar stream again, and
//! what is there without a record or a record without what it stands for.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use cais_state::Durability;
use cais_types::Digest;

use crate::error::ImageError;
use crate::layers::TEMPORARY;
use crate::model::{LAYERS, LayerRecord};
use crate::snapshot::NO_LAYERS;
use crate::store::{Store, digest_of};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A layer is not what its record says, or was marked so before.
    DamagedLayer,
    /// A layer's directory is gone.
    MissingLayer,
    /// A configuration or a manifest is not what its name says, or is gone.
    DamagedBlob,
    /// A record has other sizes than the layer.
    WrongSize,
    /// A directory of layers that no record names.
    OrphanLayer,
    /// A document that no image names.
    OrphanBlob,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fault: Fault,
    /// The digits of the digest that it is stored under.
    pub name: String,
    pub detail: String,
    /// Images that need it.
    pub images: Vec<Digest>,
    /// Nothing is left to be done. A damaged layer or document is marked instead, so that the next pull or load that brings
    /// it replaces it.
    pub repaired: bool,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub blobs: usize,
    pub layers: usize,
    /// Bytes of the tar streams of all layers.
    pub bytes: u64,
}

/// Receives findings as they come, from several threads.
type Found<'a> = &'a (dyn Fn(Finding) + Sync);

impl Store {
    /// Looks at everything; with `repair` orphans go, sizes are set right, and what is damaged is marked.
    pub fn verify(&self, repair: bool, found: Found<'_>) -> Result<Checked, ImageError> {
        let mut checked = Checked::default();
        self.check_orphans(repair, found)?;
        checked.blobs = self.check_blobs(repair, found)?;
        let layers: Vec<_> = {
            let model = self.read();
            let layers = model.layers.iter();
            layers
                .map(|(chain, layer)| (*chain, layer.clone()))
                .collect()
        };
        checked.layers = layers.len();
        checked.bytes = layers.iter().map(|(_, layer)| layer.tar_size).sum();
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some((chain, layer)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.check_layer(chain, layer, repair, found) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(checked),
        }
    }

    fn check_layer(
        &self,
        chain: &Digest,
        record: &LayerRecord,
        repair: bool,
        found: Found<'_>,
    ) -> Result<(), ImageError> {
        let _pin = self.pin(*chain);
        let name = chain.hex();
        let mut out = Counting(0);
        let result = self.layers.write_tar(&name, &record.diff, &mut out);
        // A layer that was removed meanwhile is no finding.
        if !self.read().layers.contains_key(chain) {
            return Ok(());
        }
        let mut finding = Finding {
            fault: Fault::DamagedLayer,
            name,
            detail: String::new(),
            images: self.images_on(chain),
            repaired: false,
        };
        match result {
            Ok(size) if (size, out.0) == (record.size, record.tar_size) => {
                if record.damaged {
                    finding.detail = "was marked as damaged and is whole".to_owned();
                    finding.repaired = repair;
                    found(finding);
                    return self.rewrite(repair, chain, |record| record.damaged = false);
                }
                Ok(())
            }
            Ok(size) => {
                finding.fault = Fault::WrongSize;
                finding.detail = format!(
                    "{size} bytes in files and {} in its stream, recorded are {} and {}",
                    out.0, record.size, record.tar_size
                );
                finding.repaired = repair;
                found(finding);
                self.rewrite(repair, chain, |record| {
                    (record.size, record.tar_size) = (size, out.0);
                })
            }
            Err(error) if is_ours(&error) => Err(error),
            Err(error) => {
                if !self.layers.path(&finding.name).exists() {
                    finding.fault = Fault::MissingLayer;
                }
                finding.detail = error.to_string();
                found(finding);
                self.rewrite(repair, chain, |record| record.damaged = true)
            }
        }
    }

    fn rewrite(
        &self,
        repair: bool,
        chain: &Digest,
        change: impl Fn(&mut LayerRecord),
    ) -> Result<(), ImageError> {
        if !repair {
            return Ok(());
        }
        let _changing = self.changing();
        let Some(mut record) = self.read().layers.get(chain).cloned() else {
            return Ok(());
        };
        change(&mut record);
        self.db
            .put_with_reserve(Durability::Process, LAYERS, &chain.hex(), &record)?;
        self.write().layers.insert(*chain, record);
        Ok(())
    }

    fn images_on(&self, chain: &Digest) -> Vec<Digest> {
        let model = self.read();
        let images = model.images.values();
        let on = images.filter(|image| image.chain.contains(chain));
        on.map(|image| image.id).collect()
    }

    fn check_blobs(&self, repair: bool, found: Found<'_>) -> Result<usize, ImageError> {
        let wanted: Vec<_> = {
            let model = self.read();
            let images = model.images.values();
            let blobs = images.flat_map(|image| {
                let manifest = image.manifest.as_ref().map(|kept| kept.digest);
                [
                    Some((image.id, image.id)),
                    manifest.map(|blob| (blob, image.id)),
                ]
            });
            blobs.flatten().collect()
        };
        for (blob, image) in &wanted {
            let Err(error) = self.content.get(blob) else {
                continue;
            };
            if !self.read().images.contains_key(image) {
                continue;
            }
            if repair {
                // Gone, it is written again by the next pull or load.
                let _changing = self.changing();
                self.content.remove(blob)?;
            }
            found(Finding {
                fault: Fault::DamagedBlob,
                name: blob.hex(),
                detail: error.to_string(),
                images: vec![*image],
                repaired: false,
            });
        }
        Ok(wanted.len())
    }

    fn check_orphans(&self, repair: bool, found: Found<'_>) -> Result<(), ImageError> {
        // What is being committed gets its name and its record under this lock.
        let _changing = self.changing();
        let orphan = |fault, name: &str| {
            found(Finding {
                fault,
                name: name.to_owned(),
                detail: "belongs to no record".to_owned(),
                images: Vec::new(),
                repaired: repair,
            });
        };
        for name in self.layers.names()? {
            let known = digest_of(&name).is_ok_and(|id| self.read().layers.contains_key(&id));
            // Layers that are being unpacked have temporary names; what a crash left of them goes at the next start.
            if known || name == NO_LAYERS || name.starts_with(TEMPORARY) {
                continue;
            }
            orphan(Fault::OrphanLayer, &name);
            if repair {
                self.layers.hide(&name)?;
            }
        }
        for name in self.content.names()? {
            let known = digest_of(&name).is_ok_and(|id| {
                let model = self.read();
                let mut images = model.images.values();
                let is_manifest = |kept: &crate::KeptManifest| kept.digest == id;
                images.any(|one| one.id == id || one.manifest.as_ref().is_some_and(is_manifest))
            });
            if known {
                continue;
            }
            orphan(Fault::OrphanBlob, &name);
            if repair {
                self.content.remove_name(&name)?;
            }
        }
        Ok(())
    }
}

/// Whether reading failed for want of something this process needs, which says nothing of the layer.
fn is_ours(error: &ImageError) -> bool {
    use rustix::io::Errno;
    let ImageError::Io { source, .. } = error else {
        return false;
    };
    let errno = Errno::from_io_error(source);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Counts what is written and drops it.
struct Counting(u64);

impl io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
