//! Blobs on their way from an upstream into the store. Clients that ask for the same blob meanwhile read the file that grows;
//! the fetch goes on when they leave. What is cut off goes on where it was cut off.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cais_types::Digest;
use tokio::sync::{OnceCell, watch};

use cais_distribution::client::upstream::{RegistryError as UpstreamError, UpstreamBlob};

use super::Source;
use crate::error::RegistryError;
use crate::name::RepositoryName;
use crate::registry::Registry;
use crate::store::{Progress, Session};

/// Bytes that are hashed and written together.
const GATHER: usize = 256 << 10;
/// How often a connection that was cut off is made again.
const ATTEMPTS: u32 = 5;
/// The wait before the first of these; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);

type Key = (RepositoryName, Digest);
type Cell = Arc<OnceCell<Arc<Fetch>>>;

/// The fetches under way.
#[derive(Clone, Default)]
pub struct Fetches(Arc<Mutex<HashMap<Key, Cell>>>);

/// One fetch.
pub struct Fetch {
    pub size: u64,
    pub file: Arc<File>,
    pub state: watch::Receiver<State>,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Written(u64),
    Done,
    Failed,
}

/// Why a fetch did not begin.
pub enum StartError {
    Upstream(UpstreamError),
    Own(RegistryError),
}

impl<E: Into<RegistryError>> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::Own(error.into())
    }
}

impl Fetches {
    /// The fetch of a blob: the one under way, or a new one.
    pub async fn join(
        &self,
        registry: &Arc<Registry>,
        name: RepositoryName,
        source: &Source,
        digest: Digest,
    ) -> Result<Arc<Fetch>, StartError> {
        let key = (name, digest);
        let cell = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let started = cell.get_or_try_init(|| self.start(registry, &key, source));
        let result = started.await.map(Arc::clone);
        if result.is_err() {
            self.forget(&key);
        }
        result
    }

    fn forget(&self, key: &Key) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(key);
    }

    /// Goes on when nobody waits any more, so that the file that it opens is filled or removed.
    async fn start(
        &self,
        registry: &Arc<Registry>,
        key: &Key,
        source: &Source,
    ) -> Result<Arc<Fetch>, StartError> {
        let (all, registry) = (self.clone(), Arc::clone(registry));
        let (key, source) = (key.clone(), source.clone());
        let starting = tokio::spawn(async move { all.begin(&registry, &key, &source).await });
        starting.await.map_err(RegistryError::from)?
    }

    async fn begin(
        &self,
        registry: &Arc<Registry>,
        key: &Key,
        source: &Source,
    ) -> Result<Arc<Fetch>, StartError> {
        let blob = source.upstream.blob(&source.path, &key.1, 0).await;
        let blob = blob.map_err(StartError::Upstream)?;
        let (owner, name, size) = (Arc::clone(registry), key.0.clone(), blob.size);
        // A client is told that there is no room before it has got the first byte.
        let opened = tokio::task::spawn_blocking(move || owner.store.open_session_for(&name, size));
        let (session, file) = opened.await.map_err(RegistryError::from)??;
        let (state, watched) = watch::channel(State::Written(0));
        let fetch = Arc::new(Fetch {
            size: blob.size,
            file: Arc::new(file),
            state: watched,
        });
        let work = Work {
            registry: Arc::clone(registry),
            source: source.clone(),
            session,
            fetch: Arc::clone(&fetch),
            digest: key.1,
            state,
        };
        let (all, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            work.run(blob).await;
            all.forget(&key);
        });
        Ok(fetch)
    }
}

struct Work {
    registry: Arc<Registry>,
    source: Source,
    session: Arc<Session>,
    fetch: Arc<Fetch>,
    digest: Digest,
    state: watch::Sender<State>,
}

impl Work {
    async fn run(self, blob: UpstreamBlob) {
        let mut progress = Arc::clone(&self.session.progress).lock_owned().await;
        let received = self.receive(&mut progress, blob).await;
        let (registry, session) = (Arc::clone(&self.registry), Arc::clone(&self.session));
        let (file, digest) = (Arc::clone(&self.fetch.file), self.digest);
        let finished = tokio::task::spawn_blocking(move || {
            let result = received.and_then(|()| {
                let found = progress.digest(&file).map_err(|error| error.to_string())?;
                if found != digest {
                    return Err(format!("the content is {found}"));
                }
                registry
                    .store
                    .finish_session(&session, &mut progress, &file, digest)
                    .map_err(|error| error.to_string())
            });
            if result.is_err() {
                let _purged_later = registry.store.cancel_session(&session, &mut progress);
            }
            result
        });
        let state = match finished.await {
            Ok(Ok(())) => State::Done,
            Ok(Err(error)) => {
                tracing::warn!(error, %digest, "fetch of a blob");
                State::Failed
            }
            Err(error) => {
                tracing::warn!(%error, %digest, "fetch of a blob");
                State::Failed
            }
        };
        self.state.send_replace(state);
    }

    /// Writes all bytes to the file; connections that are cut off are made again.
    async fn receive(
        &self,
        progress: &mut tokio::sync::OwnedMutexGuard<Progress>,
        mut blob: UpstreamBlob,
    ) -> Result<(), String> {
        let mut pause = PAUSE;
        let mut left = ATTEMPTS;
        loop {
            let before = progress.offset;
            let Err(error) = self.connection(progress, &mut blob).await? else {
                return Ok(());
            };
            if progress.offset > before {
                (left, pause) = (ATTEMPTS, PAUSE);
            }
            left -= 1;
            if left == 0 || !error.is_passing() {
                return Err(error.to_string());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            let again = self
                .source
                .upstream
                .blob(&self.source.path, &self.digest, progress.offset);
            blob = again.await.map_err(|error| error.to_string())?;
        }
    }

    /// What one connection brings. The outer error is one of ours, the inner one the network's.
    async fn connection(
        &self,
        progress: &mut tokio::sync::OwnedMutexGuard<Progress>,
        blob: &mut UpstreamBlob,
    ) -> Result<Result<(), UpstreamError>, String> {
        let (mut gathered, mut count) = (Vec::new(), 0);
        loop {
            let part = blob.next().await;
            let ended = !matches!(part, Ok(Some(_)));
            let mut result = Ok(());
            match part {
                Ok(Some(bytes)) => {
                    count += bytes.len();
                    gathered.push(bytes);
                }
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
            let room = self.fetch.size - progress.offset;
            if count as u64 > room {
                return Err("the upstream sends more than it said".to_owned());
            }
            if count >= GATHER || ended && count > 0 {
                self.write(progress, std::mem::take(&mut gathered)).await?;
                count = 0;
            }
            if ended {
                let short = progress.offset < self.fetch.size && result.is_ok();
                return if short {
                    Err("the upstream sends less than it said".to_owned())
                } else {
                    Ok(result)
                };
            }
        }
    }

    async fn write(
        &self,
        progress: &mut tokio::sync::OwnedMutexGuard<Progress>,
        batch: Vec<Bytes>,
    ) -> Result<(), String> {
        let file = Arc::clone(&self.fetch.file);
        let mut taken = std::mem::take(&mut **progress);
        let written = tokio::task::spawn_blocking(move || {
            let result = taken.write(&file, &batch);
            (taken, result)
        });
        let (back, result) = written.await.map_err(|error| error.to_string())?;
        **progress = back;
        self.session.advanced(progress.offset);
        self.state.send_replace(State::Written(progress.offset));
        result.map_err(|error| error.to_string())
    }
}
