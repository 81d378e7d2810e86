//! The index as the database holds it.

use cais_state::{Db, StateError};
use cais_types::Digest;

use super::change::table;
use super::index::{Index, LinkRecord, ManifestRecord, TagRecord, now};
use crate::name::{RepositoryName, Tag};

/// Reads everything.
pub fn load(db: &Db) -> Result<Index, StateError> {
    let mut index = Index {
        opened: now(),
        ..Index::default()
    };
    for (key, record) in db.all::<LinkRecord>(table::LINKS)? {
        if let Some((name, digest)) = by_digest(&key) {
            index.put_link(&name, digest, record);
        }
    }
    for (key, record) in db.all::<ManifestRecord>(table::MANIFESTS)? {
        if let Some((name, digest)) = by_digest(&key) {
            index.put_manifest(&name, digest, record);
        }
    }
    for (key, record) in db.all::<TagRecord>(table::TAGS)? {
        if let Some((name, tag)) = key.split_once(':') {
            index.put_tag(&RepositoryName::stored(name), Tag::stored(tag), record);
        }
    }
    Ok(index)
}

fn by_digest(key: &str) -> Option<(RepositoryName, Digest)> {
    let (name, digest) = key.split_once('@')?;
    Some((RepositoryName::stored(name), digest.parse().ok()?))
}
