//! Online garbage collection. What is unused is found in the index (no walk of the disk), and swept in small changes that the
//! ledger checks again one by one: what a push has used meanwhile stays, and nobody waits. Blocking.
//!
//! A blob's link goes when no manifest of its repository needs the blob and nobody has pushed, mounted or asked for it during
//! the grace time. A manifest goes, when that is wanted, if it has no tag, no index or living subject that leads to it, and its
//! retention time is over. A file goes with its last link. Uploads go when nothing has come for them for long.

use std::collections::HashSet;
use std::time::Duration;

use cais_types::Digest;
use serde::{Deserialize, Serialize};

use super::error::RegistryError;
use super::name::RepositoryName;
use super::store::{Change, Index, Repository, Store, Sweep, now};

/// What is swept with one change.
const SWEEP: usize = 64;

/// What collection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcPolicy {
    /// How long a blob stays that no manifest needs.
    pub grace: Duration,
    /// How long a manifest without tag stays; none: for ever.
    pub untagged: Option<Duration>,
    /// How long an upload stays that nothing comes for.
    pub uploads: Duration,
    /// Only tell what would go.
    pub dry_run: bool,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60 * 60),
            untagged: None,
            uploads: Duration::from_secs(7 * 24 * 60 * 60),
            dry_run: false,
        }
    }
}

/// What collection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    pub manifests: u64,
    /// Rights of repositories to blobs.
    pub links: u64,
    pub files: u64,
    pub bytes: u64,
    pub uploads: u64,
}

/// Unused things of one repository.
struct Garbage {
    repository: RepositoryName,
    digests: Vec<Digest>,
}

/// Collects. `fresh` is whether the store was opened for this alone: else nothing goes that may have been asked for before the
/// server started.
///
/// # Errors
/// The disk and the database; what was taken until then is gone.
pub fn collect(store: &Store, policy: &GcPolicy, fresh: bool) -> Result<Collected, RegistryError> {
    let mut collected = Collected::default();
    let opened = if fresh {
        i64::MIN
    } else {
        store.read(|index| index.opened)
    };
    if let Some(retention) = policy.untagged {
        let before = cutoff(retention);
        if before > opened {
            // What an index that goes has led to goes in the next round.
            while sweep_manifests(store, policy, before, &mut collected)? > 0 && !policy.dry_run {}
        }
    }
    let before = cutoff(policy.grace);
    if before > opened {
        let garbage = store.read(|index| find(index, |found| unused_links(found, before)));
        for part in garbage {
            collected.links += part.digests.len() as u64;
            for digests in part.digests.chunks(SWEEP).filter(|_| !policy.dry_run) {
                let (manifests, links) = (Vec::new(), digests.to_vec());
                sweep(
                    store,
                    &part.repository,
                    manifests,
                    links,
                    before,
                    &mut collected,
                )?;
            }
        }
    }
    collected.uploads = purge(store, policy)?;
    Ok(collected)
}

fn cutoff(age: Duration) -> i64 {
    now()
        .saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        .saturating_add(i64::from(age.is_zero()))
}

fn find(index: &Index, look: impl Fn(&Repository) -> Vec<Digest>) -> Vec<Garbage> {
    let all = index.repositories.iter().map(|(name, found)| Garbage {
        repository: name.clone(),
        digests: look(found),
    });
    all.filter(|garbage| !garbage.digests.is_empty()).collect()
}

fn sweep_manifests(
    store: &Store,
    policy: &GcPolicy,
    before: i64,
    collected: &mut Collected,
) -> Result<u64, RegistryError> {
    let mut removed = 0;
    for part in store.read(|index| find(index, |found| dead_manifests(found, before))) {
        if policy.dry_run {
            collected.manifests += part.digests.len() as u64;
            continue;
        }
        for digests in part.digests.chunks(SWEEP) {
            let (manifests, links) = (digests.to_vec(), Vec::new());
            removed += sweep(store, &part.repository, manifests, links, before, collected)?;
        }
    }
    collected.manifests += removed;
    Ok(removed)
}

fn sweep(
    store: &Store,
    repository: &RepositoryName,
    manifests: Vec<Digest>,
    links: Vec<Digest>,
    before: i64,
    collected: &mut Collected,
) -> Result<u64, RegistryError> {
    let outcome = store.change_blocking(Change::Sweep(Box::new(Sweep {
        repository: repository.clone(),
        manifests,
        links,
        before,
    })))?;
    collected.files += outcome.files;
    collected.bytes += outcome.bytes;
    Ok(outcome.removed)
}

fn unused_links(repository: &Repository, before: i64) -> Vec<Digest> {
    let unused = repository
        .links
        .iter()
        .filter(|(digest, link)| repository.users(digest) == 0 && link.last_used() < before);
    unused.map(|(digest, _)| *digest).collect()
}

/// Manifests that nothing leads to: no tag, no recent use, no living index, no living subject.
fn dead_manifests(repository: &Repository, before: i64) -> Vec<Digest> {
    let roots = repository
        .manifests
        .iter()
        .filter(|(_, manifest)| manifest.tags > 0 || manifest.last_used() >= before);
    let mut waiting: Vec<Digest> = roots.map(|(digest, _)| *digest).collect();
    let mut alive: HashSet<Digest> = waiting.iter().copied().collect();
    while let Some(digest) = waiting.pop() {
        let references = repository.manifests.get(&digest);
        let references = references.into_iter().flat_map(|m| &m.record.references);
        let first = (digest, Digest::from_bytes([0; 32]));
        let referrers = repository.referrers.range(first..);
        let referrers = referrers.take_while(|(subject, _)| *subject == digest);
        for next in references.chain(referrers.map(|(_, referrer)| referrer)) {
            if repository.manifests.contains_key(next) && alive.insert(*next) {
                waiting.push(*next);
            }
        }
    }
    let dead = repository.manifests.keys();
    dead.filter(|digest| !alive.contains(digest))
        .copied()
        .collect()
}

/// Gives up uploads that nothing has come for; one that is being written to now is in use.
fn purge(store: &Store, policy: &GcPolicy) -> Result<u64, RegistryError> {
    let mut purged = 0;
    for session in store.idle_sessions(cutoff(policy.uploads)) {
        let Ok(mut progress) = session.progress.try_lock() else {
            continue;
        };
        if session.last_used() >= cutoff(policy.uploads) || progress.ended {
            continue;
        }
        purged += 1;
        if !policy.dry_run {
            store.cancel_session(&session, &mut progress)?;
        }
    }
    Ok(purged)
}
