//! One layer into a repository: found there, mounted from another, or written and sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cais_sys::failpoint;
use cais_types::Error;
use cais_types::oci::Descriptor;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::error::RegistryError;
use super::pipe::{self, Flow};
use super::progress::{Event, ProgressSink, Step};
use super::repository::{Opened, Repository};
use super::store::{Compression, KnownBlob, PushStore, PushedLayer};
use super::transfers::blocking;

/// Repositories that a mount is tried from.
const MOUNTS_MAX: usize = 4;
const BAR_PAUSE: Duration = Duration::from_millis(100);

/// What all layers of a push share.
pub struct Uploads<'a> {
    pub target: &'a Repository,
    /// `domain/path` of the target.
    pub name: String,
    pub domain: &'a str,
    pub store: Arc<dyn PushStore>,
    pub slots: Arc<Semaphore>,
    pub progress: &'a ProgressSink,
}

/// A layer that is to be sent.
struct Sending<'a> {
    layer: &'a PushedLayer,
    compression: Compression,
    /// The form that is expected, when it is known.
    expected: Option<&'a Descriptor>,
}

impl Uploads<'_> {
    /// Sees to it that the layer is in the repository in some form, best in `original`'s.
    pub async fn layer(
        &self,
        layer: &PushedLayer,
        original: Option<&Descriptor>,
    ) -> Result<Descriptor, RegistryError> {
        let id = layer.diff.short();
        let closed = |_| RegistryError::Settings("the client is closing".into());
        let _slot = self.slots.acquire().await.map_err(closed)?;
        let is_original =
            |known: &&KnownBlob| original.is_some_and(|o| o.digest == known.descriptor.digest);
        let first: Vec<&KnownBlob> = layer.known.iter().filter(is_original).collect();
        let others: Vec<&KnownBlob> = layer.known.iter().filter(|k| !is_original(k)).collect();
        let mut started = None;
        for group in [first, others] {
            if let Some((known, step)) = self.find(&group, &mut started).await? {
                self.remember(layer, &known.descriptor, known.reproducible)
                    .await?;
                self.progress.step(&id, step);
                return Ok(known.descriptor.clone());
            }
            if let Some(known) = group.iter().find(|known| known.reproducible) {
                let sending = Sending {
                    layer,
                    compression: compression_of(&known.descriptor.media_type),
                    expected: Some(&known.descriptor),
                };
                return self.send(&sending, started).await;
            }
        }
        let sending = Sending {
            layer,
            compression: Compression::Gzip,
            expected: None,
        };
        self.send(&sending, started).await
    }

    /// A form that is in the repository, or is after a mount. A mount that was not done starts an upload.
    async fn find<'k>(
        &self,
        group: &[&'k KnownBlob],
        started: &mut Option<Opened>,
    ) -> Result<Option<(&'k KnownBlob, Step)>, RegistryError> {
        for known in group {
            if self
                .target
                .has_blob(&known.descriptor.digest)
                .await?
                .is_some()
            {
                return Ok(Some((known, Step::LayerAlreadyExists)));
            }
        }
        let prefix = format!("{}/", self.domain);
        for known in group {
            let there = known
                .repositories
                .iter()
                .filter_map(|name| name.strip_prefix(&prefix));
            let others = there.filter(|path| *path != self.target.path);
            for path in others.take(MOUNTS_MAX) {
                match self.target.mount(&known.descriptor.digest, path).await {
                    Ok(None) => return Ok(Some((known, Step::MountedFrom(path.to_owned())))),
                    Ok(Some(upload)) => *started = Some(upload),
                    Err(error) => tracing::debug!("mounting from {path}: {error}"),
                }
            }
        }
        Ok(None)
    }

    async fn remember(
        &self,
        layer: &PushedLayer,
        blob: &Descriptor,
        reproducible: bool,
    ) -> Result<(), RegistryError> {
        let (store, name) = (self.store.clone(), self.name.clone());
        let (diff, blob) = (layer.diff, blob.clone());
        blocking(move || store.remember(&diff, &blob, &name, reproducible))
            .await?
            .map_err(RegistryError::Store)
    }

    /// Writes the layer and sends it as it is written; where the registry does not take it that way, in one request of a known
    /// size.
    async fn send(
        &self,
        sending: &Sending<'_>,
        mut started: Option<Opened>,
    ) -> Result<Descriptor, RegistryError> {
        let id = sending.layer.diff.short();
        let mut patience = self.target.session.patience();
        let mut in_one = false;
        loop {
            let attempt = match in_one {
                false => self.in_parts(sending, started.take()).await,
                true => self.in_one(sending).await,
            };
            let error = match attempt {
                Ok(blob) => {
                    self.remember(sending.layer, &blob, true).await?;
                    self.progress.step(&id, Step::Pushed);
                    return Ok(blob);
                }
                Err(error) => error,
            };
            if !in_one && wants_one_request(&error) {
                in_one = true;
                continue;
            }
            let Some(wait) = patience.after(&error) else {
                return Err(error);
            };
            tracing::debug!("layer {}: {error}; again in {wait:?}", sending.layer.diff);
            if wait >= Duration::from_secs(1) {
                self.progress.step(&id, Step::Retrying(wait.as_secs()));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn in_parts(
        &self,
        sending: &Sending<'_>,
        started: Option<Opened>,
    ) -> Result<Descriptor, RegistryError> {
        let mut upload = match started {
            Some(upload) => upload,
            None => self.target.start_upload().await?,
        };
        failpoint::reach("push-upload");
        let (body, flow, written) = self.written(sending);
        let sent = self.watched(self.target.patch(&mut upload, body), &flow);
        let ((), blob) = both(sent.await, written.await)?;
        failpoint::reach("push-finish");
        self.target
            .finish(upload, &blob.digest, bytes::Bytes::new())
            .await?;
        Ok(blob)
    }

    async fn in_one(&self, sending: &Sending<'_>) -> Result<Descriptor, RegistryError> {
        let blob = match sending.expected {
            Some(blob) => blob.clone(),
            None => {
                let (store, layer) = (self.store.clone(), sending.layer.clone());
                let compression = sending.compression;
                blocking(move || store.write_layer(&layer, compression, &mut io::sink()))
                    .await?
                    .map_err(RegistryError::Store)?
            }
        };
        let upload = self.target.start_upload().await?;
        let (body, flow, written) = self.written(sending);
        let put = self
            .target
            .put_stream(upload, (&blob.digest, blob.size), body);
        let put = self.watched(put, &flow).await;
        let ((), written) = both(put, written.await)?;
        if written.digest != blob.digest {
            return Err(RegistryError::Digest {
                what: "layer",
                digest: blob.digest,
            });
        }
        Ok(blob)
    }

    /// A body that a thread of its own writes, and what the thread says of it.
    fn written(
        &self,
        sending: &Sending<'_>,
    ) -> (
        reqwest::Body,
        Flow,
        impl Future<Output = Result<Option<Descriptor>, RegistryError>> + use<>,
    ) {
        let (mut writer, pieces) = pipe::pipe();
        let (body, flow) = pipe::body(pieces, self.bar(sending));
        let (store, layer) = (self.store.clone(), sending.layer.clone());
        let compression = sending.compression;
        let task = tokio::task::spawn_blocking(move || {
            let blob = store.write_layer(&layer, compression, &mut writer);
            let ended = match blob.is_ok() {
                true => writer.end(),
                false => Ok(()),
            };
            if writer.is_left() {
                return Ok(None);
            }
            ended.map_err(|error| Error::internal(error.to_string()))?;
            blob.map(Some)
        });
        let written = async move {
            let joined = task.await;
            let joined = joined.map_err(|error| Error::internal(error.to_string()));
            joined.flatten().map_err(RegistryError::Store)
        };
        (body, flow, written)
    }

    fn bar(&self, sending: &Sending<'_>) -> impl Fn(u64) + Send + Sync + 'static {
        let progress = self.progress.clone();
        let id = sending.layer.diff.short();
        let total = sending.expected.map_or(sending.layer.tar_size, |b| b.size);
        let sent = AtomicU64::new(0);
        let told = std::sync::Mutex::new(None::<Instant>);
        move |count| {
            let current = sent.fetch_add(count, Ordering::Relaxed) + count;
            let mut told = told
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if told.is_some_and(|then| then.elapsed() < BAR_PAUSE) {
                return;
            }
            *told = Some(Instant::now());
            progress.tell(Event::Layer {
                id: id.clone(),
                step: Step::Pushing,
                current,
                total: total.max(current),
            });
        }
    }

    /// A request that ends when the registry does not take its body any more.
    async fn watched<T>(
        &self,
        request: impl Future<Output = Result<T, RegistryError>>,
        flow: &Flow,
    ) -> Result<T, RegistryError> {
        let answer = tokio::select! {
            answer = request => answer,
            () = flow.stalled(self.target.session.read_timeout()) => Err(RegistryError::Transport {
                verb: "Patch",
                url: self.target.session.endpoint.base().to_string(),
                reason: "write: i/o timeout".to_owned(),
                passing: true,
            }),
        };
        flow.close();
        answer
    }
}

/// The answer and the blob. Of two failures the writer's own comes first: the network's is then that the body broke off.
fn both<T>(
    answer: Result<T, RegistryError>,
    written: Result<Option<Descriptor>, RegistryError>,
) -> Result<(T, Descriptor), RegistryError> {
    match (answer, written) {
        (Ok(answer), Ok(Some(blob))) => Ok((answer, blob)),
        (Err(error @ RegistryError::Answer(_)), _) => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(_), Ok(None)) => Err(RegistryError::Unusable(
            "the registry did not take the whole layer".into(),
        )),
    }
}

/// Registries that take no body of unknown size.
fn wants_one_request(error: &RegistryError) -> bool {
    matches!(
        error.status(),
        Some(
            StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::LENGTH_REQUIRED
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::NOT_IMPLEMENTED
        )
    )
}

/// How the bytes of a media type are laid.
pub fn compression_of(media_type: &str) -> Compression {
    if media_type.ends_with("zstd") {
        Compression::Zstd
    } else if media_type.ends_with("gzip") {
        Compression::Gzip
    } else {
        Compression::None
    }
}
