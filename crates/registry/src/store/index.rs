//! What the registry holds, in memory: repositories with their tags, manifests and links to blobs. The ledger writes it,
//! requests read it; nothing here touches the disk. Times are milliseconds since 1970.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};

use cais_types::Digest;
use serde::{Deserialize, Serialize};

use crate::name::{RepositoryName, Tag};

/// The time now.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// When something was last asked for, so that collection leaves it alone for a while.
#[derive(Debug, Default)]
pub struct Touched(AtomicI64);

impl Touched {
    /// Asked for now.
    pub fn touch(&self) {
        self.0.fetch_max(now(), Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A repository's right to a blob, as stored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LinkRecord {
    pub size: u64,
    pub linked: i64,
}

/// A manifest of a repository, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestRecord {
    pub media_type: String,
    pub size: u64,
    pub pushed: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Blobs and manifests that it needs.
    pub references: Vec<Digest>,
}

/// A tag, as stored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TagRecord {
    pub digest: Digest,
    pub pushed: i64,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    pub record: LinkRecord,
    pub touched: Touched,
}

/// A manifest and who needs it.
#[derive(Debug)]
pub struct Manifest {
    pub record: ManifestRecord,
    pub touched: Touched,
    /// Tags that point to it.
    pub tags: u32,
}

/// One repository.
#[derive(Debug, Default)]
pub struct Repository {
    pub tags: BTreeMap<Tag, TagRecord>,
    pub manifests: HashMap<Digest, Manifest>,
    pub links: HashMap<Digest, Link>,
    /// Subject and referrer.
    pub referrers: BTreeSet<(Digest, Digest)>,
    /// How many manifests need each digest, there or not.
    users: HashMap<Digest, u32>,
}

/// A file of the content store.
#[derive(Clone, Copy, Debug)]
pub struct FileUse {
    pub size: u64,
    /// Links and manifests of all repositories.
    pub uses: u32,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Index {
    pub repositories: BTreeMap<RepositoryName, Repository>,
    pub files: HashMap<Digest, FileUse>,
    /// What was asked for before this time is not known here.
    pub opened: i64,
}

impl Link {
    /// The last time somebody showed interest.
    pub fn last_used(&self) -> i64 {
        self.record.linked.max(self.touched.get())
    }
}

impl Manifest {
    /// The last time somebody showed interest.
    pub fn last_used(&self) -> i64 {
        self.record.pushed.max(self.touched.get())
    }
}

impl Repository {
    /// How many manifests of this repository need this content.
    pub fn users(&self, digest: &Digest) -> u32 {
        self.users.get(digest).copied().unwrap_or(0)
    }

    /// Whether nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty() && self.links.is_empty()
    }

    fn use_references(&mut self, references: &[Digest]) {
        for digest in references {
            *self.users.entry(*digest).or_default() += 1;
        }
    }

    fn drop_references(&mut self, references: &[Digest]) {
        for digest in references {
            if let Some(count) = self.users.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(digest);
                }
            }
        }
    }
}

impl Index {
    /// A repository by name.
    pub fn repository(&self, name: &RepositoryName) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// The link of a blob in a repository.
    pub fn link(&self, name: &RepositoryName, digest: &Digest) -> Option<&Link> {
        self.repository(name)?.links.get(digest)
    }

    /// A manifest of a repository.
    pub fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Option<&Manifest> {
        self.repository(name)?.manifests.get(digest)
    }

    fn use_file(&mut self, digest: Digest, size: u64) {
        let file = self
            .files
            .entry(digest)
            .or_insert(FileUse { size, uses: 0 });
        file.uses += 1;
    }

    fn drop_file(&mut self, digest: &Digest) {
        if let Some(file) = self.files.get_mut(digest) {
            file.uses -= 1;
            if file.uses == 0 {
                self.files.remove(digest);
            }
        }
    }

    /// Gives a repository a blob, or renews the link's time.
    pub fn put_link(&mut self, name: &RepositoryName, digest: Digest, record: LinkRecord) {
        let repository = self.repositories.entry(name.clone()).or_default();
        if let Some(link) = repository.links.get_mut(&digest) {
            link.record = record;
            return;
        }
        let link = Link {
            record,
            touched: Touched::default(),
        };
        repository.links.insert(digest, link);
        self.use_file(digest, record.size);
    }

    /// Takes a blob from a repository; whether it was there.
    pub fn remove_link(&mut self, name: &RepositoryName, digest: &Digest) -> bool {
        let Some(repository) = self.repositories.get_mut(name) else {
            return false;
        };
        let removed = repository.links.remove(digest).is_some();
        if removed {
            self.drop_file(digest);
        }
        removed
    }

    /// Gives a repository a manifest, or renews it.
    pub fn put_manifest(&mut self, name: &RepositoryName, digest: Digest, record: ManifestRecord) {
        let repository = self.repositories.entry(name.clone()).or_default();
        if let Some(manifest) = repository.manifests.get_mut(&digest) {
            // The bytes are the same, so is all that was read from them.
            manifest.record.pushed = record.pushed;
            manifest.record.media_type = record.media_type;
            return;
        }
        let size = record.size;
        repository.use_references(&record.references);
        if let Some(subject) = record.subject {
            repository.referrers.insert((subject, digest));
        }
        let tags = repository.tags.values();
        let tags = tags.filter(|tag| tag.digest == digest).count();
        let manifest = Manifest {
            record,
            touched: Touched::default(),
            tags: u32::try_from(tags).unwrap_or(u32::MAX),
        };
        repository.manifests.insert(digest, manifest);
        self.use_file(digest, size);
    }

    /// Takes a manifest from a repository, with the tags that point to it; answers those, or none when it was not there.
    pub fn remove_manifest(&mut self, name: &RepositoryName, digest: &Digest) -> Option<Vec<Tag>> {
        let repository = self.repositories.get_mut(name)?;
        let manifest = repository.manifests.remove(digest)?;
        repository.drop_references(&manifest.record.references);
        if let Some(subject) = manifest.record.subject {
            repository.referrers.remove(&(subject, *digest));
        }
        let mut tags = Vec::new();
        repository.tags.retain(|tag, record| {
            let other = record.digest != *digest;
            if !other {
                tags.push(tag.clone());
            }
            other
        });
        self.drop_file(digest);
        Some(tags)
    }

    /// Points a tag to a manifest.
    pub fn put_tag(&mut self, name: &RepositoryName, tag: Tag, record: TagRecord) {
        let repository = self.repositories.entry(name.clone()).or_default();
        let before = repository.tags.insert(tag, record);
        if let Some(manifest) = repository.manifests.get_mut(&record.digest) {
            manifest.tags += 1;
        }
        if let Some(manifest) = before.and_then(|tag| repository.manifests.get_mut(&tag.digest)) {
            manifest.tags -= 1;
            manifest.touched.touch();
        }
    }

    /// Takes a tag away; whether it was there.
    pub fn remove_tag(&mut self, name: &RepositoryName, tag: &Tag) -> bool {
        let Some(repository) = self.repositories.get_mut(name) else {
            return false;
        };
        let Some(record) = repository.tags.remove(tag) else {
            return false;
        };
        if let Some(manifest) = repository.manifests.get_mut(&record.digest) {
            manifest.tags -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    fn manifest(references: &[u8]) -> ManifestRecord {
        ManifestRecord {
            media_type: String::new(),
            size: 1,
            pushed: 0,
            subject: Some(digest(99)),
            artifact_type: None,
            references: references.iter().map(|byte| digest(*byte)).collect(),
        }
    }

    #[test]
    fn counts_follow_what_is_put_and_removed() {
        let mut index = Index::default();
        let (a, b) = (RepositoryName::stored("a"), RepositoryName::stored("b"));
        let link = LinkRecord { size: 5, linked: 0 };
        index.put_link(&a, digest(1), link);
        index.put_link(&a, digest(1), link);
        index.put_link(&b, digest(1), link);
        assert_eq!(index.files[&digest(1)].uses, 2);
        index.put_manifest(&a, digest(7), manifest(&[1]));
        index.put_manifest(&a, digest(7), manifest(&[1]));
        assert_eq!(index.repositories[&a].users(&digest(1)), 1);
        let tag = |digest| TagRecord { digest, pushed: 0 };
        index.put_tag(&a, Tag::stored("x"), tag(digest(7)));
        index.put_tag(&a, Tag::stored("x"), tag(digest(7)));
        index.put_tag(&a, Tag::stored("y"), tag(digest(7)));
        assert_eq!(index.manifest(&a, &digest(7)).unwrap().tags, 2);
        assert!(index.remove_tag(&a, &Tag::stored("y")));
        assert_eq!(
            index.remove_manifest(&a, &digest(7)),
            Some(vec![Tag::stored("x")])
        );
        assert_eq!(index.repositories[&a].users(&digest(1)), 0);
        assert!(index.repositories[&a].referrers.is_empty());
        assert!(index.remove_link(&a, &digest(1)));
        assert!(!index.remove_link(&a, &digest(1)));
        assert!(index.repositories[&a].is_empty());
        assert_eq!(index.files.len(), 1);
    }
}
