//! Cache mounts: directories that outlive builds, and which steps may use one at the same time.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cais_build::messages::canceled;
use cais_build::ports::{Sharing, StepMount};
use cais_types::{Error, Result};

use super::trees::Trees;

/// Caches that one step has for itself.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// How often a step that waits looks whether its build was given up.
const LOOK: Duration = Duration::from_millis(50);

/// The directories of caches.
pub struct Caches {
    pub directory: PathBuf,
}

/// Caches that a step has for itself until this is dropped.
#[derive(Default)]
pub struct Held(Vec<String>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.0 {
            taken.remove(id);
        }
        GIVEN_BACK.notify_all();
    }
}

/// Waits for the caches that these mounts want locked, and finds one that is free for each private one.
///
/// # Errors
/// Canceled: the build was given up meanwhile.
pub fn hold(mounts: &mut [StepMount], given_up: &dyn Fn() -> bool) -> Result<Held> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // All at once, so that two steps never wait for each other.
    let locked: BTreeSet<String> = of(mounts, Sharing::Locked).map(|id| id.clone()).collect();
    while locked.iter().any(|id| taken.contains(id)) {
        if given_up() {
            return Err(canceled());
        }
        (taken, _) = GIVEN_BACK
            .wait_timeout(taken, LOOK)
            .unwrap_or_else(PoisonError::into_inner);
    }
    taken.extend(locked.iter().cloned());
    let mut held = Held(locked.into_iter().collect());
    for id in of(mounts, Sharing::Private) {
        let mut number = 1;
        let name = id.clone();
        while !taken.insert(id.clone()) {
            *id = format!("{name}\0{number}");
            number += 1;
        }
        held.0.push(id.clone());
    }
    Ok(held)
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
    pub mode: u32,
    pub owner: (u32, u32),
    /// The image and its directory that the cache begins with.
    pub base: Option<(&'a cais_types::Digest, &'a str)>,
}

impl Caches {
    /// The directory of a cache, made when it is missing. An id is never part of a path (CVE-2026-33747).
    pub fn directory(&self, wanted: &Wanted<'_>, trees: &Trees) -> Result<PathBuf> {
        static MAKING: Mutex<()> = Mutex::new(());
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let name = cais_images::digest(wanted.id.as_bytes()).hex();
        let path = self.directory.join(&name);
        if path.is_dir() {
            return Ok(path);
        }
        let new = self.directory.join(format!("{name}.new"));
        super::context::remove(&new).map_err(failed)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&new).map_err(failed)?;
        match wanted.base {
            Some((image, from)) => {
                let from = trees.open_image(image, from)?;
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
        Ok(path)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal(format!("build cache mount: {error}")).with_source(error)
}
