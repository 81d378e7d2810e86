//! Uploads in flight: sessions that grow a file and its hash. A session outlives its connections and, when it was opened by
//! itself, the server: what the file holds is hashed again then.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cais_sys::failpoint;
use cais_types::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use super::files::Files;
use super::index::now;
use crate::name::RepositoryName;

/// Bytes that are hashed at a time when an upload goes on after a restart.
const REHASH: usize = 1 << 20;

/// The name of a session: 32 hex digits in five groups, made by chance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Arc<str>);

/// A session as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadRecord {
    pub repository: String,
    pub started: i64,
}

/// How far a session is, and the hash of that.
#[derive(Default)]
pub struct Progress {
    pub offset: u64,
    hash: Option<ring::digest::Context>,
    /// Nothing more can be added: it was finished or given up.
    pub ended: bool,
}

/// A session.
pub struct Session {
    pub id: UploadId,
    pub repository: RepositoryName,
    pub progress: Arc<AsyncMutex<Progress>>,
    offset: AtomicU64,
    last_used: AtomicI64,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<UploadId, Arc<Session>>>);

impl UploadId {
    /// A new name.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        let rng = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&rng, &mut bytes)
            .map_err(|_| io::Error::other("no random numbers"))?;
        let text = hex::encode(bytes);
        let id = format!(
            "{}-{}-{}-{}-{}",
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..]
        );
        Ok(Self(id.into()))
    }

    /// Reads a name; anything that cannot be one is none.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 36
            && text
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    /// A session that has `offset` bytes; their hash is made when they are.
    pub fn new(id: UploadId, repository: RepositoryName, offset: u64) -> Self {
        let progress = Progress {
            offset,
            ..Progress::default()
        };
        Self {
            id,
            repository,
            progress: Arc::new(AsyncMutex::new(progress)),
            offset: AtomicU64::new(offset),
            last_used: AtomicI64::new(now()),
        }
    }

    /// Bytes that are written.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// When bytes last came, or it was opened.
    pub fn last_used(&self) -> i64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Remembers how far it is.
    pub fn advanced(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.last_used.store(now(), Ordering::Relaxed);
    }

    /// Says that somebody works on it.
    pub fn used(&self) {
        self.last_used.store(now(), Ordering::Relaxed);
    }
}

impl Progress {
    /// Adds bytes to the file and to the hash. Blocking.
    pub fn write(&mut self, file: &File, batch: &[Bytes]) -> io::Result<()> {
        self.rehash(file)?;
        for bytes in batch {
            file.write_all_at(bytes, self.offset)?;
            if let Some(hash) = &mut self.hash {
                hash.update(bytes);
            }
            self.offset += bytes.len() as u64;
        }
        failpoint::reach("upload-part");
        Ok(())
    }

    /// The digest of what came. Blocking.
    pub fn digest(&mut self, file: &File) -> io::Result<Digest> {
        self.rehash(file)?;
        let hash = self.hash.clone();
        let hash = hash.unwrap_or_else(|| ring::digest::Context::new(&ring::digest::SHA256));
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Ok(Digest::from_bytes(bytes))
    }

    /// Hashes what an earlier server wrote. Bytes after the offset, which nobody was told of, are cut off.
    fn rehash(&mut self, file: &File) -> io::Result<()> {
        if self.hash.is_some() {
            return Ok(());
        }
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        file.set_len(self.offset)?;
        if self.offset > 0 {
            let mut reader = file;
            let mut buffer = vec![0; REHASH];
            loop {
                match reader.read(&mut buffer)? {
                    0 => break,
                    count => hash.update(&buffer[..count]),
                }
            }
        }
        self.hash = Some(hash);
        Ok(())
    }
}

impl Sessions {
    /// Finds the sessions of an earlier server; files without a session are removed. The records that have no file come back.
    pub fn restore(
        &self,
        files: &Files,
        records: Vec<(String, UploadRecord)>,
    ) -> io::Result<Vec<UploadId>> {
        let mut known = HashMap::new();
        let mut lost = Vec::new();
        for (id, record) in records {
            let Some(id) = UploadId::parse(&id) else {
                continue;
            };
            match std::fs::metadata(files.upload(&id)) {
                Ok(metadata) => {
                    let name = RepositoryName::stored(&record.repository);
                    let session = Session::new(id.clone(), name, metadata.len());
                    known.insert(id, Arc::new(session));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => lost.push(id),
                Err(error) => return Err(error),
            }
        }
        for name in files.uploads()? {
            if let Some(id) = UploadId::parse(&name)
                && !known.contains_key(&id)
            {
                files.remove_upload(&id)?;
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(lost)
    }

    /// Adds a session.
    pub fn insert(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.id.clone(), Arc::clone(&session));
        session
    }

    /// A session of a repository.
    pub fn find(&self, repository: &RepositoryName, id: &UploadId) -> Option<Arc<Session>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(id)?;
        (session.repository == *repository).then(|| Arc::clone(session))
    }

    /// Forgets a session.
    pub fn remove(&self, id: &UploadId) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id);
    }

    /// Sessions that nothing has come for since a time.
    pub fn idle(&self, before: i64) -> Vec<Arc<Session>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = sessions
            .values()
            .filter(|session| session.last_used() < before);
        idle.map(Arc::clone).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
