//! The changes that the ledger makes: for each, what must hold, what it does to the index, and what it writes.

use cais_types::Digest;

use super::index::{Index, LinkRecord, ManifestRecord, TagRecord, now};
use super::ledger::{Write, key};
use super::uploads::{UploadId, UploadRecord};
use crate::error::{ErrorCode, RegistryError};
use crate::name::{RepositoryName, Tag};

/// Tables of the database.
pub mod table {
    pub const TAGS: &str = "tags";
    pub const MANIFESTS: &str = "manifests";
    pub const LINKS: &str = "links";
    pub const UPLOADS: &str = "uploads";
}

/// One change.
#[derive(Debug)]
pub enum Change {
    /// A session that outlives the server.
    OpenUpload {
        id: UploadId,
        record: UploadRecord,
    },
    /// A session without a blob; its file is gone already.
    CloseUpload {
        id: UploadId,
    },
    /// A finished, synced upload.
    Link {
        repository: RepositoryName,
        digest: Digest,
        size: u64,
        upload: UploadId,
    },
    /// A blob of another repository.
    Mount {
        from: RepositoryName,
        to: RepositoryName,
        digest: Digest,
    },
    /// A manifest, its synced file, and tags that shall point to it.
    PutManifest(Box<NewManifest>),
    DeleteTag {
        repository: RepositoryName,
        tag: Tag,
    },
    DeleteManifest {
        repository: RepositoryName,
        digest: Digest,
    },
    DeleteLink {
        repository: RepositoryName,
        digest: Digest,
    },
    DeleteRepository {
        repository: RepositoryName,
    },
    /// What collection found unused; what is used by now stays.
    Sweep(Box<Sweep>),
    /// Files that no record knew when they were listed.
    DropOrphans {
        digests: Vec<Digest>,
    },
}

/// See [`Change::PutManifest`].
#[derive(Debug)]
pub struct NewManifest {
    pub repository: RepositoryName,
    pub digest: Digest,
    pub record: ManifestRecord,
    pub tags: Vec<Tag>,
    pub upload: UploadId,
    /// What the repository must hold: content, its size, its media type when it is a manifest. Empty for a cached manifest.
    pub needs: Vec<Need>,
}

/// Content that a manifest needs.
#[derive(Clone, Debug)]
pub struct Need {
    pub digest: Digest,
    pub size: u64,
    /// The media type of a manifest; none for a blob.
    pub manifest: Option<String>,
}

/// See [`Change::Sweep`].
#[derive(Debug)]
pub struct Sweep {
    pub repository: RepositoryName,
    pub manifests: Vec<Digest>,
    pub links: Vec<Digest>,
    /// Only what was last used before this time goes.
    pub before: i64,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Manifests, links and tags that went.
    pub removed: u64,
    /// Files that nobody uses any more.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a change makes the ledger do.
#[derive(Debug, Default)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// Content that may have lost its last user.
    pub freed: Vec<Digest>,
}

impl Change {
    /// Whether it must survive a power cut before it is answered. A session need not: its file may be torn then anyway.
    pub fn durable(&self) -> bool {
        !matches!(self, Self::OpenUpload { .. } | Self::CloseUpload { .. })
    }

    /// Whether it gives space back, and may use the space kept aside for that.
    pub fn gives_back(&self) -> bool {
        matches!(
            self,
            Self::CloseUpload { .. }
                | Self::DeleteTag { .. }
                | Self::DeleteManifest { .. }
                | Self::DeleteLink { .. }
                | Self::DeleteRepository { .. }
                | Self::Sweep(_)
        )
    }

    /// The upload that becomes a file of the store.
    pub fn new_file(&self) -> Option<(&UploadId, &Digest)> {
        match self {
            Self::Link { upload, digest, .. } => Some((upload, digest)),
            Self::PutManifest(new) => Some((&new.upload, &new.digest)),
            _ => None,
        }
    }

    /// What must hold before anything is done.
    pub fn check(&self, index: &Index) -> Result<(), RegistryError> {
        match self {
            Self::Mount { from, digest, .. } => index
                .link(from, digest)
                .map(|_| ())
                .ok_or_else(|| RegistryError::blob_unknown(digest)),
            Self::PutManifest(new) => new.check(index),
            Self::DeleteTag { repository, tag } => known(index, repository)?
                .tags
                .get(tag)
                .map(|_| ())
                .ok_or_else(|| RegistryError::manifest_unknown(tag.as_str())),
            Self::DeleteManifest { repository, digest } => known(index, repository)?
                .manifests
                .get(digest)
                .map(|_| ())
                .ok_or_else(|| RegistryError::manifest_unknown(&digest.to_string())),
            Self::DeleteLink { repository, digest } => known(index, repository)?
                .links
                .get(digest)
                .map(|_| ())
                .ok_or_else(|| RegistryError::blob_unknown(digest)),
            Self::DeleteRepository { repository } => known(index, repository).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Does it to the index, and says what else is to do.
    pub fn apply(self, index: &mut Index, plan: &mut Plan) -> Result<Outcome, RegistryError> {
        match self {
            Self::OpenUpload { id, record } => {
                let key = id.as_str().to_owned();
                plan.writes.push(Write::put(table::UPLOADS, key, &record)?);
            }
            Self::CloseUpload { id } => plan.close(&id),
            Self::Link {
                repository,
                digest,
                size,
                upload,
            } => {
                plan.close(&upload);
                plan.link(index, &repository, digest, size)?;
            }
            Self::Mount { from, to, digest } => {
                let size = index.link(&from, &digest).map(|link| link.record.size);
                let size = size.ok_or_else(|| RegistryError::blob_unknown(&digest))?;
                plan.link(index, &to, digest, size)?;
            }
            Self::PutManifest(new) => plan.manifest(index, *new)?,
            Self::DeleteTag { repository, tag } => return Ok(plan.untag(index, &repository, &tag)),
            Self::DeleteManifest { repository, digest } => {
                return Ok(plan.remove_manifest(index, &repository, &digest));
            }
            Self::DeleteLink { repository, digest } => {
                return Ok(plan.unlink(index, &repository, &digest));
            }
            Self::DeleteRepository { repository } => {
                return Ok(plan.remove_repository(index, &repository));
            }
            Self::Sweep(sweep) => return Ok(plan.sweep(index, &sweep)),
            Self::DropOrphans { digests } => plan.freed.extend(digests),
        }
        Ok(Outcome::default())
    }
}

fn known<'a>(
    index: &'a Index,
    name: &RepositoryName,
) -> Result<&'a super::index::Repository, RegistryError> {
    index
        .repository(name)
        .ok_or_else(|| RegistryError::name_unknown(name.as_str()))
}

impl NewManifest {
    fn check(&self, index: &Index) -> Result<(), RegistryError> {
        let repository = index.repository(&self.repository);
        for need in &self.needs {
            let unknown = || {
                RegistryError::new(ErrorCode::ManifestBlobUnknown, "blob unknown to registry")
                    .with_detail(need.digest.to_string())
            };
            let repository = repository.ok_or_else(unknown)?;
            let manifest = repository.manifests.get(&need.digest);
            let manifest = manifest.filter(|_| need.manifest.is_some());
            let size = match (manifest, repository.links.get(&need.digest)) {
                (Some(manifest), _) => {
                    let stored = &manifest.record.media_type;
                    if need.manifest.as_ref().is_some_and(|said| said != stored) {
                        return Err(RegistryError::manifest_invalid(format!(
                            "{} is of media type {stored}",
                            need.digest
                        )));
                    }
                    manifest.record.size
                }
                (None, Some(link)) => link.record.size,
                (None, None) => return Err(unknown()),
            };
            if size != need.size {
                return Err(RegistryError::new(
                    ErrorCode::SizeInvalid,
                    "provided length did not match content length",
                )
                .with_detail(format!("{} has {size} bytes", need.digest)));
            }
        }
        Ok(())
    }
}

impl Plan {
    fn close(&mut self, id: &UploadId) {
        let key = id.as_str().to_owned();
        self.writes.push(Write::Delete(table::UPLOADS, key));
    }

    fn link(
        &mut self,
        index: &mut Index,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
    ) -> Result<(), RegistryError> {
        let record = LinkRecord {
            size,
            linked: now(),
        };
        let key = key(repository, '@', &digest);
        self.writes.push(Write::put(table::LINKS, key, &record)?);
        index.put_link(repository, digest, record);
        Ok(())
    }

    fn manifest(&mut self, index: &mut Index, new: NewManifest) -> Result<(), RegistryError> {
        let name = key(&new.repository, '@', &new.digest);
        let write = Write::put(table::MANIFESTS, name, &new.record)?;
        self.writes.push(write);
        let pushed = new.record.pushed;
        index.put_manifest(&new.repository, new.digest, new.record);
        for tag in new.tags {
            let record = TagRecord {
                digest: new.digest,
                pushed,
            };
            let name = key(&new.repository, ':', &tag);
            self.writes.push(Write::put(table::TAGS, name, &record)?);
            index.put_tag(&new.repository, tag, record);
        }
        Ok(())
    }

    fn untag(&mut self, index: &mut Index, repository: &RepositoryName, tag: &Tag) -> Outcome {
        let removed = index.remove_tag(repository, tag);
        self.writes
            .push(Write::Delete(table::TAGS, key(repository, ':', tag)));
        self.drop_if_empty(index, repository);
        Outcome {
            removed: removed.into(),
            ..Outcome::default()
        }
    }

    fn remove_manifest(
        &mut self,
        index: &mut Index,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Outcome {
        let size = index.files.get(digest).map_or(0, |file| file.size);
        let Some(tags) = index.remove_manifest(repository, digest) else {
            return Outcome::default();
        };
        for tag in &tags {
            self.writes
                .push(Write::Delete(table::TAGS, key(repository, ':', tag)));
        }
        self.writes.push(Write::Delete(
            table::MANIFESTS,
            key(repository, '@', digest),
        ));
        self.drop_if_empty(index, repository);
        self.freed(index, digest, size)
    }

    fn unlink(
        &mut self,
        index: &mut Index,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Outcome {
        let size = index.files.get(digest).map_or(0, |file| file.size);
        if !index.remove_link(repository, digest) {
            return Outcome::default();
        }
        self.writes
            .push(Write::Delete(table::LINKS, key(repository, '@', digest)));
        self.drop_if_empty(index, repository);
        self.freed(index, digest, size)
    }

    fn freed(&mut self, index: &Index, digest: &Digest, size: u64) -> Outcome {
        let free = !index.files.contains_key(digest);
        if free {
            self.freed.push(*digest);
        }
        Outcome {
            removed: 1,
            files: free.into(),
            bytes: if free { size } else { 0 },
        }
    }

    fn drop_if_empty(&self, index: &mut Index, repository: &RepositoryName) {
        if index.repository(repository).is_some_and(|r| r.is_empty()) {
            index.repositories.remove(repository);
        }
    }

    fn remove_repository(&mut self, index: &mut Index, repository: &RepositoryName) -> Outcome {
        let Some(found) = index.repository(repository) else {
            return Outcome::default();
        };
        let manifests: Vec<Digest> = found.manifests.keys().copied().collect();
        let links: Vec<Digest> = found.links.keys().copied().collect();
        let mut outcome = Outcome::default();
        for digest in &manifests {
            outcome += self.remove_manifest(index, repository, digest);
        }
        for digest in &links {
            outcome += self.unlink(index, repository, digest);
        }
        outcome
    }

    fn sweep(&mut self, index: &mut Index, sweep: &Sweep) -> Outcome {
        let mut outcome = Outcome::default();
        for digest in &sweep.manifests {
            let unused = index.repository(&sweep.repository).is_some_and(|found| {
                found.manifests.get(digest).is_some_and(|manifest| {
                    manifest.tags == 0
                        && found.users(digest) == 0
                        && manifest.last_used() < sweep.before
                })
            });
            if unused {
                outcome += self.remove_manifest(index, &sweep.repository, digest);
            }
        }
        for digest in &sweep.links {
            let unused = index.repository(&sweep.repository).is_some_and(|found| {
                found.users(digest) == 0
                    && found
                        .links
                        .get(digest)
                        .is_some_and(|link| link.last_used() < sweep.before)
            });
            if unused {
                outcome += self.unlink(index, &sweep.repository, digest);
            }
        }
        outcome
    }
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.removed += other.removed;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}
