//! Making images outlive a power cut without making anybody wait for the disk.
//!
//! An image is visible as soon as it is written: the death of the daemon cannot harm it from then on. A thread then waits
//! for the disk, once for all images that came meanwhile. Until that is over a record tells which layers may still be
//! in memory only, and since which start of the machine. When the machine has been started anew with such a record left,
//! these layers are read back and checked: each image is whole, or it is gone and the names it took go back.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cais_state::{Db, Durability};
use cais_types::{Digest, Reference};
use serde::{Deserialize, Serialize};

use crate::error::ImageError;
use crate::layers::LayerDirectory;
use crate::model::{IMAGES, LayerRecord, Model, REFERENCES};
use crate::store::Store;

/// Table of [`Unsynced`] by keys of their own.
pub const UNSYNCED: &str = "unsynced";

/// The disk is waited for when no image has come for so long, or when the first one has waited for so long: a file system
/// that is synchronised in the middle of a build makes its next steps wait.
const QUIET: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An image that a power cut may still take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unsynced {
    image: Digest,
    /// Which start of the machine it was written in (random(4), `boot_id`).
    boot: String,
    /// Chain ids of the layers that were new with it.
    layers: Vec<Digest>,
    /// Names it has taken, and which images had them.
    names: Vec<(String, Option<Digest>)>,
}

impl Unsynced {
    /// What is to be kept of an image until it is on the disk.
    pub fn new(model: &Model, image: Digest, layers: Vec<Digest>, names: &[Reference]) -> Self {
        let name = |name: &Reference| (name.to_string(), model.references.get(name).copied());
        Self {
            image,
            boot: boot(),
            layers,
            names: names.iter().map(name).collect(),
        }
    }

    /// A key that nothing had before: the same image may be written twice.
    pub fn key(&self) -> String {
        let now = jiff::Timestamp::now().as_nanosecond();
        format!("{}-{now}", self.image.hex())
    }
}

fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

/// The thread that waits for the disk.
pub struct Syncer {
    records: Option<Sender<String>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts it.
    pub fn start(layers: Arc<LayerDirectory>, db: Arc<Db>) -> Result<Self, ImageError> {
        let (records, incoming) = channel();
        let closing = Arc::new(AtomicBool::new(false));
        let closed = closing.clone();
        let thread = std::thread::Builder::new()
            .name("sync".to_owned())
            .spawn(move || run(&layers, &db, &incoming, &closed))
            .map_err(|error| ImageError::io("clone", "sync", error))?;
        Ok(Self {
            records: Some(records),
            closing,
            thread: Some(thread),
        })
    }

    /// Brings the image of a record to the disk some time soon, and deletes the record then.
    pub fn add(&self, key: String) {
        if let Some(records) = &self.records {
            let _ = records.send(key);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // What is not on the disk yet is begun again by the next start.
        self.closing.store(true, Ordering::Relaxed);
        self.records = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(layers: &LayerDirectory, db: &Db, incoming: &Receiver<String>, closing: &AtomicBool) {
    while let Ok(first) = incoming.recv() {
        let mut records = vec![first];
        let end = Instant::now() + WAIT_MAX;
        while let Ok(next) = incoming.recv_timeout(QUIET.min(end - Instant::now())) {
            records.push(next);
        }
        records.extend(incoming.try_iter());
        if closing.load(Ordering::Relaxed) {
            return;
        }
        let synced = layers.sync().and_then(|()| {
            let done = db.transaction_with_reserve(Durability::Power, |changes| {
                let mut records = records.iter();
                records.try_for_each(|key| changes.delete(UNSYNCED, key))
            });
            Ok(done?)
        });
        if let Err(error) = synced {
            tracing::error!(%error, "images may not outlive a power cut");
        }
    }
}

impl Store {
    /// What was written before a power cut and is not whole is taken out of the database and marked in the model; what is
    /// whole is brought to the disk. Called before images and names are read.
    pub(crate) fn settle_unsynced(&self, model: &mut Model) -> Result<(), ImageError> {
        let boot = boot();
        let mut torn = Vec::new();
        for (key, unsynced) in self.db.all::<Unsynced>(UNSYNCED)? {
            if unsynced.boot == boot {
                self.syncer.add(key);
            } else {
                torn.push((key, unsynced));
            }
        }
        let suspects: HashSet<Digest> = torn
            .iter()
            .flat_map(|(_, unsynced)| unsynced.layers.iter().copied())
            .collect();
        let lost = self.lost(model, suspects);
        for (key, unsynced) in torn {
            let image = unsynced.image;
            let config = self.config(&image);
            let diffs = config.ok().and_then(|config| config.rootfs.diff_ids);
            let chain = diffs.map(|diffs| crate::layers::chain_ids(&diffs));
            let whole = chain.is_some_and(|chain| chain.iter().all(|layer| !lost.contains(layer)));
            if whole {
                self.syncer.add(key);
                continue;
            }
            tracing::warn!(%image, "an image did not outlive a power cut");
            let mut names = unsynced.names;
            // A name that it has lost since is not its to give back.
            names.retain(|(name, _)| {
                let now = self.db.get::<Digest>(REFERENCES, name);
                now.is_ok_and(|now| now == Some(image))
            });
            self.db.transaction(Durability::Process, |changes| {
                changes.delete(IMAGES, &image.hex())?;
                changes.delete(UNSYNCED, &key)?;
                for (name, before) in &names {
                    match before {
                        Some(before) => changes.put(REFERENCES, name, before)?,
                        None => changes.delete(REFERENCES, name)?,
                    }
                }
                Ok(())
            })?;
        }
        for layer in lost {
            if let Some(record) = model.layers.get_mut(&layer) {
                record.damaged = true;
            }
        }
        Ok(())
    }

    /// Which of these layers are not what their records say.
    fn lost(&self, model: &Model, suspects: HashSet<Digest>) -> HashSet<Digest> {
        let suspects: Vec<_> = suspects.into_iter().collect();
        let lost = Mutex::new(HashSet::new());
        let check = |chain: &Digest| {
            let whole = |record: &LayerRecord| {
                let mut sink = io::sink();
                let replayed = self.layers.write_tar(&chain.hex(), &record.diff, &mut sink);
                replayed.is_ok()
            };
            if !model.layers.get(chain).is_some_and(whole) {
                let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
                lost.insert(*chain);
            }
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let share = suspects.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for part in suspects.chunks(share) {
                scope.spawn(|| part.iter().for_each(check));
            }
        });
        lost.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
