//! Uploads: open, add, ask how far, finish, cancel, and mount instead (end-4, end-5, end-6, end-11, end-13, end-14).
//!
//! The way of the bytes: hyper's buffers are gathered up to [`GATHER`], then a thread that may block hashes and writes them
//! while the next are gathered. At the end the file is synced and gets its name; there is no second copy.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cais_types::Digest;
use http::{StatusCode, header};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinHandle;

use super::auth::Action;
use super::call::Call;
use super::error::{ErrorCode, RegistryError};
use super::name::{RepositoryName, parse_digest};
use super::registry::Registry;
use super::reply::{self, Body, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, Result};
use super::request_body::RequestBody;
use super::store::{Change, Progress, Session};

/// Bytes that are hashed and written together.
const GATHER: usize = 256 << 10;
/// How long a request waits for another one on the same session: the connection before it may be dead and not know it.
const TURN: Duration = Duration::from_secs(5);

type Held = OwnedMutexGuard<Progress>;

/// POST: mounts, takes a whole blob, or opens a session.
///
/// # Errors
/// Digests that do not match, limits, the disk.
pub async fn open(registry: &Arc<Registry>, call: Call, name: RepositoryName) -> Result {
    if let Some(algorithm) = call.query.get("digest-algorithm")
        && algorithm != "sha256"
    {
        return Err(
            RegistryError::new(ErrorCode::DigestInvalid, "unsupported digest algorithm")
                .with_detail(algorithm),
        );
    }
    if let Some(digest) = call.query.get("mount") {
        let digest = parse_digest(digest)?;
        if let Some(from) = call.query.get("from") {
            let from = RepositoryName::parse(from)?;
            if mount(registry, &call, from, &name, digest).await? {
                return created(&name, &digest);
            }
        }
        return start(registry, &name).await;
    }
    let Some(digest) = call.query.get("digest") else {
        return start(registry, &name).await;
    };
    let digest = parse_digest(digest)?;
    let nothing = call.body.exact_size() == Some(0);
    if nothing && digest.as_bytes() != ring_empty() {
        return start(registry, &name).await;
    }
    let (session, file) = session(registry, &name, false).await?;
    let held = turn(&session).await?;
    let work = Work {
        registry: Arc::clone(registry),
        session,
        file: Arc::new(file),
    };
    work.detached(held, call.body, Some(digest), true).await?;
    created(&name, &digest)
}

/// The digest of no bytes.
fn ring_empty() -> &'static [u8; 32] {
    static EMPTY: std::sync::LazyLock<[u8; 32]> = std::sync::LazyLock::new(|| {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, b"").as_ref());
        bytes
    });
    &EMPTY
}

/// Whether the blob was mounted. A client that may not read the other repository learns nothing of it.
async fn mount(
    registry: &Arc<Registry>,
    call: &Call,
    from: RepositoryName,
    to: &RepositoryName,
    digest: Digest,
) -> Result<bool> {
    if !call.access.allows(&from, Action::Pull) {
        return Ok(false);
    }
    let change = Change::Mount {
        from,
        to: to.clone(),
        digest,
    };
    match registry.store.change(change).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::BlobUnknown => Ok(false),
        Err(error) => Err(error),
    }
}

/// A new session. When the client goes meanwhile it is taken back: nobody will ever name it.
async fn session(
    registry: &Arc<Registry>,
    name: &RepositoryName,
    durable: bool,
) -> Result<(Arc<Session>, File)> {
    let (registry, name) = (Arc::clone(registry), name.clone());
    let (told, answer) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let opened = registry.store.open_session(&name, durable);
        if let Err(Ok((session, _file))) = told.send(opened) {
            let mut progress = session.progress.blocking_lock();
            let _purged_later = registry.store.cancel_session(&session, &mut progress);
        }
    });
    answer
        .await
        .map_err(|error| RegistryError::internal("upload", &error))?
}

async fn start(registry: &Arc<Registry>, name: &RepositoryName) -> Result {
    let (session, _file) = session(registry, name, true).await?;
    state(&session, StatusCode::ACCEPTED)
}

/// PATCH: adds a chunk, or a stream of unknown length.
///
/// # Errors
/// 416 when the chunk is not the next one.
pub async fn add(registry: &Arc<Registry>, call: Call, name: RepositoryName, id: String) -> Result {
    let (work, held) = find(registry, &name, &id).await?;
    check_range(&call, &work.session, held.offset)?;
    let session = Arc::clone(&work.session);
    work.detached(held, call.body, None, false).await?;
    state(&session, StatusCode::ACCEPTED)
}

/// PUT: adds the last chunk, if there is one, and makes the blob.
///
/// # Errors
/// `DIGEST_INVALID`, after which the session is gone when it was the content that did not match.
pub async fn finish(
    registry: &Arc<Registry>,
    call: Call,
    name: RepositoryName,
    id: String,
) -> Result {
    let digest = call.query.get("digest").ok_or_else(|| {
        RegistryError::new(ErrorCode::DigestInvalid, "the digest parameter is missing")
    })?;
    let digest = parse_digest(digest)?;
    let (work, held) = find(registry, &name, &id).await?;
    if call.body.exact_size() != Some(0) {
        check_range(&call, &work.session, held.offset)?;
    }
    work.detached(held, call.body, Some(digest), false).await?;
    created(&name, &digest)
}

/// GET: how far it is.
///
/// # Errors
/// `BLOB_UPLOAD_UNKNOWN`.
pub fn ask(registry: &Arc<Registry>, name: &RepositoryName, id: &str) -> Result {
    let session = registry
        .store
        .session(name, id)
        .ok_or_else(RegistryError::upload_unknown)?;
    session.used();
    state(&session, StatusCode::NO_CONTENT)
}

/// DELETE: gives it up.
///
/// # Errors
/// `BLOB_UPLOAD_UNKNOWN`.
pub async fn cancel(registry: &Arc<Registry>, name: RepositoryName, id: String) -> Result {
    let (work, mut held) = find(registry, &name, &id).await?;
    tokio::task::spawn_blocking(move || {
        work.registry.store.cancel_session(&work.session, &mut held)
    })
    .await??;
    reply::finish(
        reply::status(StatusCode::NO_CONTENT).header(DOCKER_UPLOAD_UUID, id),
        Body::empty(),
    )
}

async fn find(registry: &Arc<Registry>, name: &RepositoryName, id: &str) -> Result<(Work, Held)> {
    let session = registry
        .store
        .session(name, id)
        .ok_or_else(RegistryError::upload_unknown)?;
    let held = turn(&session).await?;
    if held.ended {
        return Err(RegistryError::upload_unknown());
    }
    session.used();
    let (registry, id) = (Arc::clone(registry), session.id.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let file = registry.store.open_upload(&id)?;
        Ok::<_, std::io::Error>((registry, file))
    });
    let (registry, file) = opened.await??;
    let work = Work {
        registry,
        session,
        file: Arc::new(file),
    };
    Ok((work, held))
}

async fn turn(session: &Session) -> Result<Held> {
    let progress = Arc::clone(&session.progress).lock_owned();
    tokio::time::timeout(TURN, progress).await.map_err(|_| {
        RegistryError::new(
            ErrorCode::TooManyRequests,
            "another request is adding to this upload",
        )
        .with_header(header::RETRY_AFTER, "1")
    })
}

/// Refuses a chunk that is not the next one, or whose length is not what it says.
fn check_range(call: &Call, session: &Session, offset: u64) -> Result<()> {
    let Some(range) = call.header(&header::CONTENT_RANGE) else {
        return Ok(());
    };
    let broken = |why: &str| {
        RegistryError::new(ErrorCode::BlobUploadInvalid, "invalid content range").with_detail(why)
    };
    let numbers = range
        .split_once('-')
        .and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = numbers else {
        return Err(broken("want <first byte>-<last byte>"));
    };
    if first != offset || last < first {
        let mut error = broken(&format!("the next byte is {offset}"))
            .with_status(StatusCode::RANGE_NOT_SATISFIABLE);
        for (name, value) in describe(session) {
            error = error.with_header(name, value);
        }
        return Err(error);
    }
    if call
        .body
        .exact_size()
        .is_some_and(|length| length != last - first + 1)
    {
        return Err(RegistryError::new(
            ErrorCode::SizeInvalid,
            "provided length did not match content length",
        ));
    }
    Ok(())
}

/// Whether nothing more can come of an upload. What fills the disk gives its room back: the client begins anew.
fn is_over(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE
    )
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// What tells a client where it is.
fn describe(session: &Session) -> [(http::HeaderName, String); 3] {
    let location = format!(
        "/v2/{}/blobs/uploads/{}",
        session.repository,
        session.id.as_str()
    );
    let last = session.offset().saturating_sub(1);
    [
        (header::LOCATION, location),
        (header::RANGE, format!("0-{last}")),
        (DOCKER_UPLOAD_UUID, session.id.as_str().to_owned()),
    ]
}

fn state(session: &Session, status: StatusCode) -> Result {
    let mut builder = reply::status(status);
    for (name, value) in describe(session) {
        builder = builder.header(name, value);
    }
    reply::finish(builder, Body::empty())
}

fn created(name: &RepositoryName, digest: &Digest) -> Result {
    let builder = reply::status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header(DOCKER_CONTENT_DIGEST, digest.to_string());
    reply::finish(builder, Body::empty())
}

/// One request's work on a session.
struct Work {
    registry: Arc<Registry>,
    session: Arc<Session>,
    file: Arc<File>,
}

impl Work {
    /// Adds the body and makes the blob when there is a digest. Runs on when the client goes away, so that what came is kept
    /// and counted. A session that is `single` does not outlive a failure.
    async fn detached(
        self,
        held: Held,
        body: RequestBody,
        digest: Option<Digest>,
        single: bool,
    ) -> Result<()> {
        tokio::spawn(self.run(held, body, digest, single)).await?
    }

    async fn run(
        self,
        held: Held,
        body: RequestBody,
        digest: Option<Digest>,
        single: bool,
    ) -> Result<()> {
        let (mut held, received) = self.receive(held, body).await?;
        let finishing = received.is_ok();
        let over = matches!(&received, Err(error) if is_over(error.status));
        tokio::task::spawn_blocking(move || {
            let result = received.and_then(|()| match digest {
                Some(digest) => self.complete(&mut held, digest),
                None => Ok(()),
            });
            if result.is_err() && (single || over || finishing) {
                let cancelled = self.registry.store.cancel_session(&self.session, &mut held);
                if let Err(error) = cancelled {
                    tracing::warn!(%error, "an upload stays until it is purged");
                }
            }
            result
        })
        .await?
    }

    /// Writes the body to the file. What came before a failure is written too. The outer error is a lost session.
    async fn receive(&self, held: Held, mut body: RequestBody) -> Result<(Held, Result<()>)> {
        let mut room = self.registry.limits.upload.saturating_sub(held.offset);
        let mut writer = Writer::Idle(held);
        let mut gathered = Vec::new();
        let mut size = 0;
        let ended = loop {
            match body.next(self.registry.limits.idle).await {
                Ok(Some(data)) if data.len() as u64 > room => break Err(self.too_large()),
                Ok(Some(data)) => {
                    room -= data.len() as u64;
                    size += data.len();
                    gathered.push(data);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if size >= GATHER {
                let held = match writer.idle().await? {
                    (held, Ok(())) => held,
                    (held, Err(error)) => return Ok((held, Err(error.into()))),
                };
                self.session.advanced(held.offset);
                self.registry.metrics.received(size as u64);
                writer = self.write(held, std::mem::take(&mut gathered));
                size = 0;
            }
        };
        let (mut held, mut written) = writer.idle().await?;
        if written.is_ok() && !gathered.is_empty() {
            self.registry.metrics.received(size as u64);
            (held, written) = self.write(held, gathered).idle().await?;
        }
        self.session.advanced(held.offset);
        Ok((held, written.map_err(RegistryError::from).and(ended)))
    }

    fn write(&self, mut held: Held, batch: Vec<Bytes>) -> Writer {
        let file = Arc::clone(&self.file);
        Writer::Busy(tokio::task::spawn_blocking(move || {
            let result = held.write(&file, &batch);
            (held, result)
        }))
    }

    /// Checks the digest and makes the blob. Blocking.
    fn complete(&self, held: &mut Held, digest: Digest) -> Result<()> {
        let found = held.digest(&self.file)?;
        if found != digest {
            return Err(RegistryError::new(
                ErrorCode::DigestInvalid,
                "provided digest did not match uploaded content",
            )
            .with_detail(format!("the content is {found}")));
        }
        let store = &self.registry.store;
        store.finish_session(&self.session, held, &self.file, digest)
    }

    fn too_large(&self) -> RegistryError {
        let limit = self.registry.limits.upload;
        RegistryError::new(
            ErrorCode::SizeInvalid,
            format!("the blob is longer than {limit} bytes"),
        )
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// The thread that writes, or what it gives back.
enum Writer {
    Idle(Held),
    Busy(JoinHandle<(Held, std::io::Result<()>)>),
}

impl Writer {
    async fn idle(self) -> Result<(Held, std::io::Result<()>)> {
        match self {
            Self::Idle(held) => Ok((held, Ok(()))),
            Self::Busy(thread) => Ok(thread.await?),
        }
    }
}
