//! What `cais registry gc|ls|rm` ask of a folder, whether a server runs on it or not.

use std::path::Path;

use cais_types::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

use super::control;
use super::error::{ErrorCode, RegistryError};
use super::gc::{Collected, GcPolicy, collect};
use super::name::{ManifestName, RepositoryName};
use super::store::{Change, Index, Store};

/// A repository in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryRow {
    pub name: String,
    pub tags: usize,
    pub manifests: usize,
    pub blobs: usize,
    /// Bytes of its manifests and blobs; what repositories share is in each of them.
    pub size: u64,
}

/// A manifest in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRow {
    pub tag: Option<String>,
    pub digest: Digest,
    pub media_type: String,
    /// When it was pushed last, RFC 3339.
    pub pushed: String,
    /// Bytes of the manifest and all that it leads to.
    pub size: u64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    Gc(GcPolicy),
    Repositories,
    Manifests {
        repository: String,
    },
    Remove {
        repository: String,
        what: Option<String>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Collected(Collected),
    Repositories(Vec<RepositoryRow>),
    Manifests(Vec<ManifestRow>),
    Removed,
    Failed(String),
}

/// Asks the server of a folder, or the folder itself when none runs. Blocking.
///
/// # Errors
/// Not found: no such repository, tag or manifest, no registry in the folder; the disk.
pub fn ask(root: &Path, request: &Request) -> Result<Answer> {
    if !root.join("registry.db").exists() {
        return Err(Error::not_found(format!(
            "no registry in {}",
            root.display()
        )));
    }
    let answer = if control::is_served(root) {
        control::ask(root, request)?
    } else if let Some(store) = Store::open(root)? {
        store.drop_orphans().map_err(|error| failed(&error))?;
        answer(&store, request, |policy| collect(&store, policy, true))
    } else {
        control::ask(root, request)?
    };
    match answer {
        Answer::Failed(text) => Err(Error::not_found(text)),
        other => Ok(other),
    }
}

fn failed(error: &RegistryError) -> Error {
    Error::internal(error.to_string())
}

/// Does what is asked. Blocking.
pub fn answer(
    store: &Store,
    request: &Request,
    collect: impl FnOnce(&GcPolicy) -> Result<Collected, RegistryError>,
) -> Answer {
    let answered = match request {
        Request::Gc(policy) => collect(policy).map(Answer::Collected),
        Request::Repositories => Ok(Answer::Repositories(store.read(repositories))),
        Request::Manifests { repository } => manifests(store, repository).map(Answer::Manifests),
        Request::Remove { repository, what } => {
            remove(store, repository, what.as_deref()).map(|()| Answer::Removed)
        }
    };
    answered.unwrap_or_else(|error| Answer::Failed(sentence(&error)))
}

/// An error as a command prints it.
fn sentence(error: &RegistryError) -> String {
    match (&error.detail, error.code) {
        (Some(detail), ErrorCode::NameUnknown) => format!("no such repository: {detail}"),
        (Some(detail), ErrorCode::ManifestUnknown) => format!("no such manifest: {detail}"),
        (Some(detail), _) => format!("{}: {detail}", error.message),
        (None, _) => error.message.clone(),
    }
}

fn repositories(index: &Index) -> Vec<RepositoryRow> {
    let rows = index.repositories.iter().map(|(name, repository)| {
        let blobs = repository.links.values().map(|link| link.record.size);
        let manifests = repository.manifests.values().map(|m| m.record.size);
        RepositoryRow {
            name: name.to_string(),
            tags: repository.tags.len(),
            manifests: repository.manifests.len(),
            blobs: repository.links.len(),
            size: blobs.chain(manifests).sum(),
        }
    });
    rows.collect()
}

fn manifests(store: &Store, repository: &str) -> Result<Vec<ManifestRow>, RegistryError> {
    let name = RepositoryName::parse(repository)?;
    store.read(|index| {
        let repository = index
            .repository(&name)
            .ok_or_else(|| RegistryError::name_unknown(name.as_str()))?;
        let row = |tag: Option<String>, digest: &Digest| {
            let manifest = repository.manifests.get(digest)?;
            let pushed = jiff::Timestamp::from_millisecond(manifest.record.pushed);
            Some(ManifestRow {
                tag,
                digest: *digest,
                media_type: manifest.record.media_type.clone(),
                pushed: pushed.map(|time| time.to_string()).unwrap_or_default(),
                size: reach(repository, digest),
            })
        };
        let tagged = repository.tags.iter();
        let tagged = tagged.filter_map(|(tag, record)| row(Some(tag.to_string()), &record.digest));
        let others = repository.manifests.iter();
        let others = others.filter(|(_, manifest)| manifest.tags == 0);
        let mut others: Vec<_> = others.filter_map(|(digest, _)| row(None, digest)).collect();
        others.sort_by_key(|row| row.digest);
        Ok(tagged.chain(others).collect())
    })
}

/// Bytes of a manifest and all that it leads to, each once.
fn reach(repository: &super::store::Repository, digest: &Digest) -> u64 {
    let mut seen = std::collections::HashSet::from([*digest]);
    let mut waiting = vec![*digest];
    let mut size = 0;
    while let Some(digest) = waiting.pop() {
        if let Some(manifest) = repository.manifests.get(&digest) {
            size += manifest.record.size;
            let references = manifest.record.references.iter().copied();
            waiting.extend(references.filter(|next| seen.insert(*next)));
        } else if let Some(link) = repository.links.get(&digest) {
            size += link.record.size;
        }
    }
    size
}

fn remove(store: &Store, repository: &str, what: Option<&str>) -> Result<(), RegistryError> {
    let repository = RepositoryName::parse(repository)?;
    let change = match what.map(ManifestName::parse).transpose()? {
        None => Change::DeleteRepository { repository },
        Some(ManifestName::Tag(tag)) => Change::DeleteTag { repository, tag },
        Some(ManifestName::Digest(digest)) => Change::DeleteManifest { repository, digest },
    };
    store.change_blocking(change).map(|_| ())
}
