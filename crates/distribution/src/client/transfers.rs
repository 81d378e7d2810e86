//! Layers on their way into the store, each once however many pulls want it. A layer is fetched by a task of its own; pulls
//! hold tickets, and the task ends with the last of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cais_types::oci::Descriptor;
use cais_types::{Digest, Error, ErrorClass};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::download::Download;
use super::error::RegistryError;
use super::partial::{Partial, Partials};
use super::progress::{Event, ProgressSink, Step};
use super::reader::{LayerReader, Piece};
use super::repository::Repository;
use super::store::{PullStore, UnpackedLayer};

/// How often a bar moves.
const BAR_PAUSE: Duration = Duration::from_millis(100);

/// Servers of one repository with the credentials of one user.
pub type Source = Vec<Repository>;

/// A layer that a pull wants.
#[derive(Clone)]
pub struct Wanted {
    pub layer: Descriptor,
    pub diff: Digest,
    pub store: Arc<dyn PullStore>,
}

/// The same layer for the same store.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    store: usize,
    blob: Digest,
    diff: Digest,
}

#[derive(Clone)]
enum State {
    Going {
        step: Step,
        current: u64,
    },
    /// The store has got it since the pull looked.
    Present,
    Done(Result<UnpackedLayer, (ErrorClass, String)>),
}

/// What the task and the tickets share.
struct Transfer {
    wanted: Wanted,
    /// Sources that pulls brought and that were not tried yet, and those that were.
    sources: Mutex<(Vec<Source>, Vec<Source>)>,
    state: watch::Sender<State>,
    given_up: Arc<AtomicBool>,
}

/// Ends the task when the last ticket is gone.
struct Held {
    transfer: Arc<Transfer>,
    task: AbortHandle,
}

/// A pull's share in a transfer.
pub struct Ticket(Arc<Held>);

/// All transfers of a client.
pub struct Transfers {
    going: Mutex<HashMap<Key, Weak<Held>>>,
    slots: Arc<Semaphore>,
    partials: Partials,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.transfer.given_up.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Transfers {
    /// At most so many at the same time.
    pub fn new(slots: usize, partials: Partials) -> Self {
        Self {
            going: Mutex::default(),
            slots: Arc::new(Semaphore::new(slots.max(1))),
            partials,
        }
    }

    /// A share in the transfer of a layer, which is started when there is none.
    pub fn join(&self, wanted: Wanted, source: Source) -> Ticket {
        let key = Key {
            store: wanted.store.place(),
            blob: wanted.layer.digest,
            diff: wanted.diff,
        };
        let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        going.retain(|_, held| held.strong_count() > 0);
        if let Some(held) = going.get(&key).and_then(Weak::upgrade)
            && held.transfer.offer(&source)
        {
            return Ticket(held);
        }
        let transfer = Arc::new(Transfer {
            wanted,
            sources: Mutex::new((vec![source], Vec::new())),
            state: watch::Sender::new(State::Going {
                step: Step::Waiting,
                current: 0,
            }),
            given_up: Arc::default(),
        });
        let run = transfer
            .clone()
            .run(self.slots.clone(), self.partials.clone());
        let held = Arc::new(Held {
            task: tokio::spawn(run).abort_handle(),
            transfer,
        });
        going.insert(key, Arc::downgrade(&held));
        Ticket(held)
    }
}

impl Transfer {
    /// Adds a source for the case that those before fail; refused when they have failed.
    fn offer(&self, source: &Source) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*self.state.borrow(), State::Done(Err(_))) {
            return false;
        }
        let (waiting, tried) = &mut *sources;
        let known = waiting.iter().chain(tried.iter()).any(|s| same(s, source));
        if !known {
            waiting.push(source.clone());
        }
        true
    }

    /// The next source; none ends the transfer with this failure, so that no pull joins it any more.
    fn next_source(&self, failure: Option<&RegistryError>) -> Option<Source> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let (waiting, tried) = &mut *sources;
        if waiting.is_empty() {
            if let Some(error) = failure {
                let (class, text) = told(error);
                self.state.send_replace(State::Done(Err((class, text))));
            }
            return None;
        }
        let source = waiting.remove(0);
        tried.push(source.clone());
        Some(source)
    }

    fn tell(&self, step: Step, current: u64) {
        self.state.send_replace(State::Going { step, current });
    }

    async fn run(self: Arc<Self>, slots: Arc<Semaphore>, partials: Partials) {
        // The semaphore is never closed.
        let Ok(_slot) = slots.acquire_owned().await else {
            return;
        };
        // A pull that looked before another one committed the layer, and came here after that.
        let wanted = self.wanted.clone();
        if let Ok(true) = blocking(move || wanted.store.has_diff(&wanted.diff)).await {
            self.state.send_replace(State::Present);
            return;
        }
        let mut failure = None;
        while let Some(source) = self.next_source(failure.as_ref()) {
            match self.fetch(&source, &partials).await {
                Ok(layer) => {
                    self.state.send_replace(State::Done(Ok(layer)));
                    return;
                }
                Err(error) => failure = Some(error),
            }
        }
    }

    /// Fetches from one source. What an earlier transfer left may be wrong: then all of it is fetched again.
    async fn fetch(
        &self,
        source: &Source,
        partials: &Partials,
    ) -> Result<UnpackedLayer, RegistryError> {
        for from_partial in [true, false] {
            let (layer, partials) = (self.wanted.layer.clone(), partials.clone());
            let partial = blocking(move || {
                let mut partial = partials.open(&layer)?;
                if !from_partial && let Err(error) = partial.clear() {
                    tracing::debug!("emptying a partial layer: {error}");
                    return None;
                }
                Some(partial)
            })
            .await?;
            match self.attempt(source, partial).await? {
                Attempt::Unpacked(layer) => return Ok(layer),
                Attempt::Bad { error, prefixed } if !prefixed => {
                    return Err(RegistryError::Store(error));
                }
                Attempt::Bad { error, .. } => {
                    tracing::info!(
                        "layer {}: {error}; fetching it anew",
                        self.wanted.layer.digest
                    );
                }
            }
        }
        Err(RegistryError::Unusable("the layer does not unpack".into()))
    }

    async fn attempt(
        &self,
        source: &Source,
        partial: Option<Partial>,
    ) -> Result<Attempt, RegistryError> {
        let begin = partial.as_ref().map_or(0, |partial| partial.length);
        let (pieces, reader) = LayerReader::new(partial, self.given_up.clone());
        let wanted = self.wanted.clone();
        let unpacking = tokio::task::spawn_blocking(move || unpack(&wanted, reader));
        tokio::pin!(unpacking);
        self.tell(Step::Downloading, begin);
        let download = Download {
            repositories: source,
            blob: &self.wanted.layer,
            pieces: pieces.clone(),
            tell: &|step, current| self.tell(step, current),
        };
        let failed = Mutex::new(None);
        let fetching = async {
            let last = match download.run(begin).await {
                Ok(()) => Piece::End,
                // Who does not read any more has failed first, which is told below.
                Err(_) if pieces.is_closed() => Piece::Broken,
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Piece::Broken
                }
            };
            let is_whole = matches!(last, Piece::End);
            let _ = pieces.send(last).await;
            if is_whole {
                self.tell(Step::Extracting, self.wanted.layer.size);
            }
        };
        let unpacked = tokio::select! {
            biased;
            unpacked = &mut unpacking => unpacked,
            () = fetching => unpacking.await,
        };
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        unpacked.map_err(|error| RegistryError::Store(Error::internal(error.to_string())))
    }
}

enum Attempt {
    Unpacked(UnpackedLayer),
    /// What was unpacked is not the layer, or the disk did not take it. `prefixed` is whether bytes of an earlier transfer
    /// were in it.
    Bad {
        error: Error,
        prefixed: bool,
    },
}

fn unpack(wanted: &Wanted, mut reader: LayerReader) -> Attempt {
    let result = wanted
        .store
        .unpack(&wanted.layer, &wanted.diff, &mut reader);
    let prefixed = reader.used_prefix();
    let whole = reader.whole();
    let error = match result {
        Ok(layer) if whole == Some(wanted.layer.size) => return Attempt::Unpacked(layer),
        Ok(_) => Error::internal("the layer was not read to its end"),
        Err(error) => error,
    };
    // Bytes that are all there and wrong are of no use to the next pull.
    if whole.is_some()
        && let Some(mut partial) = reader.into_partial()
        && !partial.holds(&wanted.layer).unwrap_or(true)
    {
        partial.delete();
    }
    Attempt::Bad { error, prefixed }
}

/// Runs what blocks on a thread for it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RegistryError::Store(Error::internal(error.to_string())))
}

fn told(error: &RegistryError) -> (ErrorClass, String) {
    let class = match error {
        RegistryError::Store(error) => error.class(),
        _ if error.is_passing() => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    };
    (class, error.to_string())
}

fn same(one: &Source, other: &Source) -> bool {
    let alike = |(a, b): (&Repository, &Repository)| {
        Arc::ptr_eq(&a.session.endpoint, &b.session.endpoint)
            && a.path == b.path
            && a.session.identity(&[]).credentials == b.session.identity(&[]).credentials
    };
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

impl Ticket {
    /// The blob's digest.
    pub fn digest(&self) -> Digest {
        self.0.transfer.wanted.layer.digest
    }

    /// The diff id of what is in it.
    pub fn diff(&self) -> Digest {
        self.0.transfer.wanted.diff
    }

    /// Waits for the layer, telling how it gets on; none when the store has it.
    pub async fn follow(
        &self,
        progress: &ProgressSink,
    ) -> Result<Option<UnpackedLayer>, RegistryError> {
        let transfer = &self.0.transfer;
        let mut states = transfer.state.subscribe();
        let mut ends = transfer.state.subscribe();
        let bar = Bar {
            id: transfer.wanted.layer.digest.short(),
            total: transfer.wanted.layer.size,
            progress,
        };
        let mut is_fetched = false;
        loop {
            let state = states.borrow_and_update().clone();
            let is_past = !matches!(
                &state,
                State::Going {
                    step: Step::Waiting | Step::Downloading | Step::Retrying(_),
                    ..
                } | State::Present
                    | State::Done(Err(_))
            );
            if is_past && !is_fetched {
                is_fetched = true;
                progress.step(&bar.id, Step::VerifyingChecksum);
                progress.step(&bar.id, Step::DownloadComplete);
                bar.tell(Step::Extracting, bar.total);
            }
            match state {
                State::Going { step, current } => bar.tell(step, current),
                State::Present => {
                    progress.step(&bar.id, Step::AlreadyExists);
                    return Ok(None);
                }
                State::Done(Ok(layer)) => {
                    progress.step(&bar.id, Step::PullComplete);
                    return Ok(Some(layer));
                }
                State::Done(Err((class, text))) => {
                    return Err(RegistryError::Store(Error::new(class, text)));
                }
            }
            let over = tokio::time::timeout(
                BAR_PAUSE,
                ends.wait_for(|state| !matches!(state, State::Going { .. })),
            );
            if over.await.is_err() && states.changed().await.is_err() {
                let text = "the transfer of a layer ended early";
                return Err(RegistryError::Store(Error::internal(text)));
            }
        }
    }
}

struct Bar<'a> {
    id: String,
    total: u64,
    progress: &'a ProgressSink,
}

impl Bar<'_> {
    fn tell(&self, step: Step, current: u64) {
        let (current, total) = match step.has_bar() {
            true => (current, self.total),
            false => (0, 0),
        };
        self.progress.tell(Event::Layer {
            id: self.id.clone(),
            step,
            current,
            total,
        });
    }
}
