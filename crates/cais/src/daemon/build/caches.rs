//! Cache mounts: directories that outlive builds, and which steps may use one at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cais_build::cancel::Cancellation;
use cais_build::messages::canceled;
use cais_build::ports::{Sharing, StepMount, TreeRoot};
use cais_state::{Db, Durability};
use cais_types::{Error, ErrorClass, Result};
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use super::trees::Trees;

/// Table of [`Cache`] by the names of their directories.
pub const TABLE: &str = "build-cache-mount";

/// Steps that use a cache now, by its id.
static USED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Caches that one step has for itself.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// Held while a directory comes or goes.
static CHANGING: Mutex<()> = Mutex::new(());

/// What is known of a cache besides its files. Times in seconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    pub id: String,
    /// Where the step that made it had it.
    pub target: String,
    pub created: i64,
    pub used: i64,
    pub uses: i64,
}

impl Cache {
    /// The id as its Dockerfile has it: private caches beside the first have a number behind.
    pub fn shown_id(&self) -> String {
        shown(&self.id)
    }
}

fn shown(id: &str) -> String {
    id.replace('\0', "#")
}

/// A number that no other import has.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A mount that has a cache for itself.
fn whole(id: &str) -> StepMount {
    StepMount::Cache {
        id: id.to_owned(),
        base: None,
        path: "/".to_owned(),
        target: "/".to_owned(),
        read_only: true,
        mode: 0o755,
        owner: (0, 0),
        sharing: Sharing::Locked,
    }
}

/// Whether a step uses a cache now.
pub fn is_used(id: &str) -> bool {
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    used.contains_key(id)
}

/// Removes what a daemon that was killed has left half made: directories of caches have no dot in their names.
pub fn remove_leftovers(directory: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some() {
            super::context::remove(&path)?;
        }
    }
    Ok(())
}

/// The directories of caches.
pub struct Caches {
    pub directory: PathBuf,
    pub db: Arc<Db>,
}

/// Caches that a step uses until this is dropped.
#[derive(Default)]
pub struct Held {
    /// Those it has for itself.
    alone: Vec<String>,
    used: Vec<String>,
}

impl Held {
    /// Lets no prune take the caches that the step uses.
    fn use_all(&mut self, mounts: &[StepMount]) {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        for mount in mounts {
            if let StepMount::Cache { id, .. } = mount {
                *used.entry(id.clone()).or_default() += 1;
                self.used.push(id.clone());
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.used {
            match used.get_mut(id) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(used.remove(id)),
            }
        }
        drop(used);
        let mut taken = taken();
        for id in &self.alone {
            taken.remove(id);
        }
        GIVEN_BACK.notify_all();
    }
}

/// Waits for the caches that these mounts want locked, and finds one that is free for each private one.
///
/// # Errors
/// Canceled: the build was given up meanwhile.
pub fn hold(mounts: &mut [StepMount], given_up: &Cancellation) -> Result<Held> {
    let _told = given_up.on_set(|| {
        // Who waits has looked at the flag before, or is told now.
        drop(taken());
        GIVEN_BACK.notify_all();
    });
    let mut taken = taken();
    // All at once, so that two steps never wait for each other.
    let locked: BTreeSet<String> = of(mounts, Sharing::Locked).map(|id| id.clone()).collect();
    while locked.iter().any(|id| taken.contains(id)) {
        if given_up.is_set() {
            return Err(canceled());
        }
        let woken = GIVEN_BACK.wait(taken);
        taken = woken.unwrap_or_else(PoisonError::into_inner);
    }
    taken.extend(locked.iter().cloned());
    let mut held = Held {
        alone: locked.into_iter().collect(),
        used: Vec::new(),
    };
    for id in of(mounts, Sharing::Private) {
        let mut number = 1;
        let name = id.clone();
        while !taken.insert(id.clone()) {
            *id = format!("{name}\0{number}");
            number += 1;
        }
        held.alone.push(id.clone());
    }
    drop(taken);
    held.use_all(mounts);
    Ok(held)
}

fn taken() -> MutexGuard<'static, BTreeSet<String>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of(mounts: &mut [StepMount], wanted: Sharing) -> impl Iterator<Item = &mut String> {
    mounts.iter_mut().filter_map(move |mount| match mount {
        StepMount::Cache { id, sharing, .. } if *sharing == wanted => Some(id),
        _ => None,
    })
}

/// What a new cache is like.
pub struct Wanted<'a> {
    pub id: &'a str,
    /// Where the step has it.
    pub target: &'a str,
    pub mode: u32,
    pub owner: (u32, u32),
    /// The tree and its directory that the cache begins with.
    pub base: Option<(&'a TreeRoot, &'a str)>,
}

impl Caches {
    /// The directory of a cache, made when it is missing. An id is never part of a path (CVE-2026-33747).
    pub fn directory(&self, wanted: &Wanted<'_>, trees: &Trees) -> Result<PathBuf> {
        let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let name = cais_images::digest(wanted.id.as_bytes()).hex();
        let path = self.directory.join(&name);
        if path.is_dir() {
            self.remember(&name, wanted)?;
            return Ok(path);
        }
        let new = self.directory.join(format!("{name}.new"));
        super::context::remove(&new).map_err(failed)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&new).map_err(failed)?;
        match wanted.base {
            Some((root, from)) => {
                let from = trees.open(root, from)?;
                let to = std::fs::File::open(&new).map_err(failed)?;
                cais_volumes::copy_tree(from.as_fd(), to.as_fd()).map_err(failed)?;
            }
            None => {
                chown(&new, Some(wanted.owner.0), Some(wanted.owner.1)).map_err(failed)?;
                let mode = Permissions::from_mode(wanted.mode);
                std::fs::set_permissions(&new, mode).map_err(failed)?;
            }
        }
        std::fs::rename(&new, &path).map_err(failed)?;
        self.remember(&name, wanted)?;
        Ok(path)
    }

    fn remember(&self, name: &str, wanted: &Wanted<'_>) -> Result<()> {
        let now = jiff::Timestamp::now().as_second();
        let known: Option<Cache> = self.db.get(TABLE, name).map_err(unknown)?;
        let mut cache = known.unwrap_or_else(|| Cache {
            id: wanted.id.to_owned(),
            target: wanted.target.to_owned(),
            created: now,
            ..Cache::default()
        });
        cache.used = now;
        cache.uses += 1;
        let put = self.db.put(Durability::Process, TABLE, name, &cache);
        put.map_err(unknown)
    }

    /// The name of the directory of a cache, by its id, as its Dockerfile or `du` has it.
    fn find(&self, id: &str) -> Result<Option<(String, Cache)>> {
        let all: Vec<(String, Cache)> = self.db.all(TABLE).map_err(unknown)?;
        let same = |(name, cache): &(String, Cache)| cache.shown_id() == id || name == id;
        Ok(all.into_iter().find(same))
    }

    /// The same where the cache has to be there.
    ///
    /// # Errors
    /// Not found: the cache.
    pub fn get(&self, id: &str) -> Result<(String, Cache)> {
        let missing = || Error::not_found(format!("no cache mount with id {id:?}"));
        self.find(id)?.ok_or_else(missing)
    }

    /// Writes the files of a cache as a tar stream. No step that wants the cache for itself has it meanwhile.
    ///
    /// # Errors
    /// Not found: the cache. Canceled: nobody reads any more.
    pub fn export(&self, id: &str, out: &mut impl Write, given_up: &Cancellation) -> Result<()> {
        let (name, cache) = self.get(id)?;
        let _held = hold(&mut [whole(&cache.id)], given_up)?;
        let directory = std::fs::File::open(self.directory.join(name)).map_err(failed)?;
        cais_images::export(directory.as_fd(), out)
            .map_err(|error| Error::internal(format!("build cache mount: {error}")))
    }

    /// Puts the files of an archive in the place of those of a cache, which is made when it is missing.
    ///
    /// # Errors
    /// Conflict: a step uses it. Those of the archive.
    pub fn import(&self, id: &str, archive: impl Read + Send) -> Result<()> {
        let (name, id) = match self.find(id)? {
            Some((name, cache)) => (name, cache.id),
            None => (cais_images::digest(id.as_bytes()).hex(), id.to_owned()),
        };
        let new = self.directory.join(format!("{name}.import-{}", number()));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(&new).map_err(failed)?;
        let swapped = std::fs::File::open(&new).map_err(failed).and_then(|into| {
            cais_images::extract_into(into.into(), archive)?;
            self.swap(&name, &id, &new)
        });
        // What was there before, or what did not come to be there.
        super::context::remove(&new).map_err(failed)?;
        swapped
    }

    /// Puts a directory in the place of a cache that no step uses.
    fn swap(&self, name: &str, id: &str, new: &Path) -> Result<()> {
        let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        if is_used(id) {
            let text = format!(
                "cache mount {:?} is being used by a running step",
                shown(id)
            );
            return Err(Error::new(ErrorClass::Conflict, text));
        }
        let path = self.directory.join(name);
        let flags = match path.is_dir() {
            true => RenameFlags::EXCHANGE,
            false => RenameFlags::NOREPLACE,
        };
        rustix::fs::renameat_with(CWD, new, CWD, &path, flags)
            .map_err(|errno| failed(errno.into()))?;
        let wanted = Wanted {
            id,
            target: id,
            mode: 0o755,
            owner: (0, 0),
            base: None,
        };
        self.remember(name, &wanted)
    }

    /// Removes a cache by the name of its directory; false when a step uses it by now.
    ///
    /// # Errors
    /// Those of the file system and of the database.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Option<Cache> = self.db.get(TABLE, name).map_err(unknown)?;
        if known.is_some_and(|cache| is_used(&cache.id)) {
            return Ok(false);
        }
        super::context::remove(&self.directory.join(name)).map_err(failed)?;
        let delete = self.db.delete(Durability::Process, TABLE, name);
        delete.map_err(unknown)?;
        Ok(true)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal(format!("build cache mount: {error}")).with_source(error)
}

fn unknown(error: cais_state::StateError) -> Error {
    Error::internal(format!("build cache mount: {error}")).with_source(error)
}
