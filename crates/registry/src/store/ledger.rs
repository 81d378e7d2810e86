//! The one writer. Changes queue up; a thread takes all that wait, checks and applies them in order, and makes them durable
//! together: the names of new files, then one transaction of the database. Because checks and changes are made in one order,
//! collection can never take what a push has just relied on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use cais_state::{Db, Durability, StateError};
use cais_sys::failpoint;
use cais_types::Digest;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::change::{Change, Outcome, Plan};
use super::files::Files;
use super::index::Index;
use super::load::load;
use crate::error::{ErrorCode, RegistryError};
use crate::name::RepositoryName;

/// Changes that are made durable together at most.
const BATCH: usize = 256;

/// What a change does to the database.
#[derive(Debug)]
pub enum Write {
    Put(&'static str, String, Value),
    Delete(&'static str, String),
}

impl Write {
    /// A document; what cannot be encoded is refused.
    pub fn put(
        table: &'static str,
        key: String,
        value: &impl Serialize,
    ) -> Result<Self, RegistryError> {
        serde_json::to_value(value)
            .map(|value| Self::Put(table, key, value))
            .map_err(|error| RegistryError::internal("record", &error))
    }
}

/// What became of a change.
pub type Answer = Result<Outcome, RegistryError>;

struct Request {
    change: Change,
    answer: oneshot::Sender<Answer>,
}

/// The queue and its thread.
#[derive(Debug)]
pub struct Ledger {
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Starts the thread.
    pub fn start(files: Files, db: Arc<Db>, index: Arc<RwLock<Index>>) -> std::io::Result<Self> {
        let (queue, requests) = channel();
        let writer = Writer {
            files,
            db,
            index,
            stale: false,
            discarded: 0,
        };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&requests))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues a change; the answer comes when it is durable.
    pub fn submit(&self, change: Change) -> Result<oneshot::Receiver<Answer>, RegistryError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue
            .send(Request { change, answer })
            .map_err(|_| ended())?;
        Ok(answered)
    }
}

impl Drop for Ledger {
    /// Waits for the changes that are queued.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// The answer to changes that come when the registry ends.
pub fn ended() -> RegistryError {
    RegistryError::new(ErrorCode::Unavailable, "the registry is shutting down")
}

struct Writer {
    files: Files,
    db: Arc<Db>,
    index: Arc<RwLock<Index>>,
    /// The index does not match the database: a change could not be kept.
    stale: bool,
    /// Counts files moved to the trash, for their names.
    discarded: u64,
}

/// What a batch has gathered so far.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    kept: Vec<Digest>,
    freed: Vec<Digest>,
    durable: bool,
    gives_back: bool,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut waiting = vec![first];
            while waiting.len() < BATCH
                && let Ok(next) = requests.try_recv()
            {
                waiting.push(next);
            }
            self.batch(waiting);
        }
    }

    fn batch(&mut self, waiting: Vec<Request>) {
        let mut batch = Batch::default();
        let usable = self.refresh();
        for request in waiting {
            let planned = usable
                .clone()
                .map_err(|text| RegistryError::new(ErrorCode::Unavailable, text))
                .and_then(|()| self.apply(request.change, &mut batch));
            batch.answers.push((request.answer, planned));
        }
        let committed = self.commit(&batch);
        for _file in &batch.kept {
            failpoint::reach("file-recorded");
        }
        if let Err(error) = &committed {
            tracing::error!(%error, "changes are lost");
            self.stale = true;
            let _retried_with_the_next_batch = self.refresh();
        }
        // Files whose last user went, and new files whose record could not be kept.
        let unsure = committed.is_err().then_some(batch.kept);
        let freed = batch.freed.iter().chain(unsure.iter().flatten());
        let discarded: Vec<PathBuf> = freed.filter_map(|digest| self.discard(digest)).collect();
        for (answer, planned) in batch.answers {
            let result =
                match &committed {
                    Ok(()) => planned,
                    Err(error) => planned
                        .and(Err(RegistryError::new(error.code, &error.message)
                            .with_status(error.status))),
                };
            let _gone = answer.send(result);
        }
        if !discarded.is_empty() {
            let spawned = std::thread::Builder::new().spawn(move || Files::empty(&discarded));
            if let Err(error) = spawned {
                tracing::warn!(%error, "files stay in the trash until the next start");
            }
        }
    }

    /// Reads the index again after a change could not be kept.
    fn refresh(&mut self) -> Result<(), String> {
        if !self.stale {
            return Ok(());
        }
        let fresh = load(&self.db).map_err(|error| error.to_string())?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.stale = false;
        Ok(())
    }

    fn apply(&mut self, change: Change, batch: &mut Batch) -> Answer {
        let mut plan = Plan::default();
        // Nobody else writes: what is checked here still holds when it is applied.
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        change.check(&index)?;
        drop(index);
        if let Some((upload, digest)) = change.new_file() {
            self.files.keep(upload, digest)?;
            failpoint::reach("file-named");
            batch.kept.push(*digest);
        }
        batch.durable |= change.durable();
        batch.gives_back |= change.gives_back();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change.apply(&mut index, &mut plan)?;
        batch.writes.append(&mut plan.writes);
        batch.freed.append(&mut plan.freed);
        Ok(outcome)
    }

    fn commit(&self, batch: &Batch) -> Result<(), RegistryError> {
        let shelves: BTreeSet<u8> = batch.kept.iter().map(|d| d.as_bytes()[0]).collect();
        for shelf in shelves {
            self.files.sync_shelf(shelf)?;
        }
        if batch.writes.is_empty() {
            return Ok(());
        }
        let durability = if batch.durable {
            Durability::Power
        } else {
            Durability::Process
        };
        let write = |changes: &cais_state::Changes<'_>| -> Result<(), StateError> {
            for write in &batch.writes {
                match write {
                    Write::Put(table, key, value) => changes.put(table, key, value)?,
                    Write::Delete(table, key) => changes.delete(table, key)?,
                }
            }
            Ok(())
        };
        if batch.gives_back {
            self.db.transaction_with_reserve(durability, write)?;
        } else {
            self.db.transaction(durability, write)?;
        }
        Ok(())
    }

    /// Moves a file away unless somebody uses it.
    fn discard(&mut self, digest: &Digest) -> Option<PathBuf> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        if self.stale || index.files.contains_key(digest) {
            return None;
        }
        drop(index);
        self.discarded += 1;
        self.files
            .discard(digest, self.discarded)
            .unwrap_or_else(|error| {
                tracing::warn!(%error, %digest, "discard");
                None
            })
    }
}

/// The key of something in a repository.
pub fn key(repository: &RepositoryName, separator: char, name: &impl std::fmt::Display) -> String {
    format!("{repository}{separator}{name}")
}
