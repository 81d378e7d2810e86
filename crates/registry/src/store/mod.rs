//! What the registry keeps: files by digest shared by all repositories, uploads in flight, and the records of who may read
//! what. Reading takes the index in memory; every change goes through the ledger.

mod change;
mod files;
mod index;
mod ledger;
mod load;
mod uploads;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use cais_state::Db;
use cais_sys::failpoint;
use cais_types::{Digest, Error};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

pub use change::{Change, Need, NewManifest, Outcome, Sweep};
pub use index::{Index, ManifestRecord, Repository, now};
pub use uploads::{Progress, Session, UploadId, UploadRecord};

use super::error::RegistryError;
use super::name::RepositoryName;
use files::Files;
use ledger::Ledger;
use uploads::Sessions;

/// Orphans that are dropped with one change.
const ORPHANS: usize = 64;

/// How long the lock of a server that has just ended may seem to be held: a process that it was starting still has it.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Whether the lock is ours now.
fn take(lock: &File) -> io::Result<bool> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// An open registry folder; one process at a time.
pub struct Store {
    pub root: PathBuf,
    files: Files,
    index: Arc<RwLock<Index>>,
    sessions: Sessions,
    ledger: Ledger,
    opened: SystemTime,
    _lock: File,
}

impl Store {
    /// Opens or makes a folder. None: another process has it open.
    ///
    /// # Errors
    /// Internal: the disk or the database refuse.
    pub fn open(root: &Path) -> cais_types::Result<Option<Self>> {
        let failed = |error: io::Error| {
            Error::internal(format!("registry folder {}: {error}", root.display()))
                .with_source(error)
        };
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(root);
        made.map_err(failed)?;
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let lock = options.open(root.join("lock")).map_err(failed)?;
        if !take(&lock).map_err(failed)? {
            return Ok(None);
        }
        let files = Files::open(root).map_err(failed)?;
        let db = Arc::new(Db::open(&root.join("registry.db"))?);
        let index = Arc::new(RwLock::new(load::load(&db)?));
        let sessions = Sessions::default();
        let records = db.all(change::table::UPLOADS)?;
        let lost = sessions.restore(&files, records).map_err(failed)?;
        let ledger = Ledger::start(files.clone(), db, Arc::clone(&index)).map_err(failed)?;
        for id in lost {
            let _forgotten = ledger.submit(Change::CloseUpload { id });
        }
        Ok(Some(Self {
            root: root.to_owned(),
            files,
            index,
            sessions,
            ledger,
            opened: SystemTime::now(),
            _lock: lock,
        }))
    }

    /// Reads the index. Keep it short: changes wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a change; it is durable when this answers.
    pub async fn change(&self, change: Change) -> Result<Outcome, RegistryError> {
        let answer = self.ledger.submit(change)?;
        answer.await.map_err(|_| ledger::ended())?
    }

    /// As [`Store::change`], from a thread that may block.
    pub fn change_blocking(&self, change: Change) -> Result<Outcome, RegistryError> {
        let answer = self.ledger.submit(change)?;
        answer.blocking_recv().map_err(|_| ledger::ended())?
    }

    /// Opens a file of the store. Blocking.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.files.blob(digest))
    }

    /// Opens a session; a durable one can go on after the server was restarted. Blocking.
    pub fn open_session(
        &self,
        repository: &RepositoryName,
        durable: bool,
    ) -> Result<(Arc<Session>, File), RegistryError> {
        let id = UploadId::random()?;
        let file = self.files.create_upload(&id)?;
        if durable {
            let record = UploadRecord {
                repository: repository.to_string(),
                started: now(),
            };
            let change = Change::OpenUpload {
                id: id.clone(),
                record,
            };
            if let Err(error) = self.change_blocking(change) {
                self.forget_upload(&id);
                return Err(error);
            }
        }
        let session = Session::new(id, repository.clone(), 0);
        Ok((self.sessions.insert(session), file))
    }

    /// Opens a session, which does not outlive the server, for so many bytes: there is room for them, where the file system can
    /// say so. Blocking.
    pub fn open_session_for(
        &self,
        repository: &RepositoryName,
        size: u64,
    ) -> Result<(Arc<Session>, File), RegistryError> {
        let (session, file) = self.open_session(repository, false)?;
        let room = match size {
            0 => Ok(()),
            _ => fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size),
        };
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = room {
            self.sessions.remove(&session.id);
            self.forget_upload(&session.id);
            return Err(io::Error::from(errno).into());
        }
        Ok((session, file))
    }

    /// A session of a repository.
    pub fn session(&self, repository: &RepositoryName, id: &str) -> Option<Arc<Session>> {
        self.sessions.find(repository, &UploadId::parse(id)?)
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.count()
    }

    /// Sessions that nothing has come for since a time.
    pub fn idle_sessions(&self, before: i64) -> Vec<Arc<Session>> {
        self.sessions.idle(before)
    }

    /// The file of a session. Blocking.
    pub fn open_upload(&self, id: &UploadId) -> io::Result<File> {
        self.files.open_upload(id)
    }

    /// Gives a session up. `progress` is the session's, held. Blocking.
    pub fn cancel_session(
        &self,
        session: &Session,
        progress: &mut Progress,
    ) -> Result<(), RegistryError> {
        progress.ended = true;
        self.sessions.remove(&session.id);
        self.files.remove_upload(&session.id)?;
        let id = session.id.clone();
        self.change_blocking(Change::CloseUpload { id })?;
        Ok(())
    }

    /// Makes a session's file durable and a blob of its repository. `progress` is the session's, held. Blocking.
    pub fn finish_session(
        &self,
        session: &Session,
        progress: &mut Progress,
        file: &File,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        // A write that failed half-way may have left bytes behind the end.
        file.set_len(progress.offset)?;
        file.sync_data()?;
        failpoint::reach("upload-synced");
        self.change_blocking(Change::Link {
            repository: session.repository.clone(),
            digest,
            size: progress.offset,
            upload: session.id.clone(),
        })?;
        progress.ended = true;
        self.sessions.remove(&session.id);
        Ok(())
    }

    /// Writes a manifest's bytes to an upload file, durably; the ledger gives it its name. Blocking.
    pub fn write_manifest(&self, bytes: &[u8]) -> io::Result<UploadId> {
        use std::io::Write as _;
        let id = UploadId::random()?;
        let mut file = self.files.create_upload(&id)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            let _best_effort = self.files.remove_upload(&id);
            return Err(error);
        }
        failpoint::reach("manifest-synced");
        Ok(id)
    }

    /// Removes the file of an upload that nothing else is known of. Blocking.
    pub fn forget_upload(&self, id: &UploadId) {
        if let Err(error) = self.files.remove_upload(id) {
            tracing::warn!(%error, "remove");
        }
    }

    /// Removes files that no record knows: what a crash left between a file's name and its record. Blocking.
    pub fn drop_orphans(&self) -> Result<(), RegistryError> {
        for prefix in 0..=u8::MAX {
            let found = self.files.old_blobs(prefix, self.opened)?;
            let orphans: Vec<Digest> = self.read(|index| {
                let unknown = |digest: &Digest| !index.files.contains_key(digest);
                found.into_iter().filter(unknown).collect()
            });
            for digests in orphans.chunks(ORPHANS) {
                let digests = digests.to_vec();
                self.change_blocking(Change::DropOrphans { digests })?;
            }
        }
        Ok(())
    }
}
