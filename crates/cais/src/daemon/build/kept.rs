//! Contexts that stay from one build to the next, so that a client sends only what has changed: a directory with the files as
//! they were sent, and an index of what is known of each. One build at a time has one; another from the same directory gets a
//! new one that does not stay. No file is ever written to again: what changed is replaced, because layers may have the file
//! as theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cais_build::listing::{Entry, Kind, Listing, Ranges};
use cais_build::ports::FileMemory;
use cais_sys::path_in_root;
use cais_types::{Digest, Error, Result};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::context::{make, open_directory, remove};

/// Contexts that some build has now.
static LEASED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Of each context.
const FILES: &str = "files";
const INDEX: &str = "index";
/// A context that no build has used for so long goes, in seconds; BuildKit's own rule for such.
const UNUSED_MAX: i64 = 48 * 3600;

/// What is known of an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    kind: Kind,
    stamp: u64,
    inode: u64,
    /// Of its contents.
    digest: Option<Digest>,
    /// Layers that have it as their own, as numbers in [`Index::layers`].
    layers: Vec<usize>,
}

/// What is known of a context.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The start of the machine it was written in: after another one files may lack what was not written back.
    boot: String,
    entries: BTreeMap<Vec<u8>, Known>,
    layers: Vec<Digest>,
}

/// A context that a build has until this is dropped.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    index: Index,
    by_inode: HashMap<u64, Vec<u8>>,
}

impl Kept {
    /// The context of this key below `directory`; none while another build has it.
    ///
    /// # Errors
    /// Invalid: the key. Those of the file system.
    pub fn lease(directory: &Path, key: &str) -> Result<Option<Self>> {
        if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid("a context has a bad key"));
        }
        let directory = directory.join(key);
        if !leased().insert(directory.clone()) {
            return Ok(None);
        }
        let kept = Self {
            directory,
            memory: Mutex::default(),
        };
        make(&kept.directory)?;
        let mut index: Index = fs::read(kept.directory.join(INDEX))
            .ok()
            .and_then(|bytes| postcard::from_bytes(&bytes).ok())
            .unwrap_or_default();
        if index.boot != boot() {
            index = Index::default();
        }
        // A daemon that is killed leaves none, and so nothing that is believed.
        let _ = fs::remove_file(kept.directory.join(INDEX));
        kept.lock().index = index;
        Ok(Some(kept))
    }

    /// Where the files are.
    pub fn files(&self) -> PathBuf {
        self.directory.join(FILES)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn empty(&self) -> Result<()> {
        let files = self.files();
        remove(&files).map_err(|error| failed(&files, &error))?;
        make(&files)?;
        cais_sys::tree::spread(open_directory(&files)?);
        Ok(())
    }

    /// Removes what is no part of the context any more; answers what has to be sent.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn compare(&self, listing: &Listing) -> Result<Ranges> {
        let mut memory = self.lock();
        if memory.index.entries.is_empty() {
            self.empty()?;
        }
        let known = &mut memory.index.entries;
        let mut left: HashMap<&[u8], (usize, &Entry)> = HashMap::new();
        let mut wanted = BTreeSet::new();
        for (number, entry) in listing.entries.iter().enumerate() {
            left.insert(&entry.path, (number, entry));
            let have = known.get(&entry.path);
            if have.is_some_and(|have| have.stamp == entry.stamp && entry.stamp != 0) {
                continue;
            }
            wanted.insert(number);
            // A file that is replaced changes the time of its directory here, but did not there.
            let slash = entry.path.iter().rposition(|byte| *byte == b'/');
            let above = slash.and_then(|at| left.get(&entry.path[..at]));
            wanted.extend(above.map(|(number, _)| *number));
        }
        // What was in a directory that goes is gone with it.
        let root = open_directory(&self.files())?;
        let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (path, have) in &*known {
            let is_directory = |kind| kind == Kind::Directory;
            let stays = left
                .get(&path[..])
                .is_some_and(|(_, entry)| is_directory(entry.kind) == is_directory(have.kind));
            if !stays && !is_among(&gone, path) {
                remove_below(&root, path)?;
                gone.insert(path.clone());
            }
        }
        known.retain(|path, _| !is_among(&gone, path));
        Ok(ranges(wanted))
    }

    /// Takes note of what has been sent.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn arrived(&self, listing: &Listing, wanted: &Ranges) -> Result<()> {
        let mut memory = self.lock();
        let root = open_directory(&self.files())?;
        let entries = wanted
            .iter()
            .flat_map(|(from, to)| &listing.entries[*from..*to]);
        for entry in entries {
            let path = Path::new(OsStr::from_bytes(&entry.path));
            // What went away between the list and the sending is no part of the context.
            let Ok(stat) = stat(&root, path) else {
                memory.index.entries.remove(&entry.path);
                continue;
            };
            let known = Known {
                kind: entry.kind,
                stamp: entry.stamp,
                inode: stat.st_ino,
                digest: None,
                layers: Vec::new(),
            };
            memory.index.entries.insert(entry.path.clone(), known);
        }
        let Memory { index, by_inode } = &mut *memory;
        let files = index
            .entries
            .iter()
            .filter(|(_, known)| known.kind == Kind::File);
        *by_inode = files
            .map(|(path, known)| (known.inode, path.clone()))
            .collect();
        Ok(())
    }

    /// A file was removed from the context here.
    pub fn forget(&self, path: &str) {
        self.lock().index.entries.remove(path.as_bytes());
    }

    fn write_index(&self) -> io::Result<()> {
        let mut memory = self.lock();
        memory.index.boot = boot();
        let bytes = postcard::to_stdvec(&memory.index).map_err(io::Error::other)?;
        let new = self.directory.join("index.new");
        fs::File::create(&new)?.write_all(&bytes)?;
        fs::rename(new, self.directory.join(INDEX))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.write_index() {
            tracing::debug!(%error, directory = %self.directory.display(), "a context will be sent anew");
        }
        leased().remove(&self.directory);
    }
}

impl FileMemory for Kept {
    fn digest(&self, inode: u64) -> Option<Digest> {
        self.lock().known(inode)?.digest
    }

    fn learn(&self, inode: u64, digest: Digest) {
        if let Some(known) = self.lock().known(inode) {
            known.digest = Some(digest);
        }
    }

    fn layers(&self, inode: u64) -> Vec<Digest> {
        let mut memory = self.lock();
        let numbers = memory.known(inode).map(|known| known.layers.clone());
        let layer = |number| memory.index.layers.get(number).copied();
        numbers.into_iter().flatten().filter_map(layer).collect()
    }

    fn give(&self, inode: u64, layer: Digest) {
        let mut memory = self.lock();
        let layers = &mut memory.index.layers;
        let number = layers.iter().position(|have| *have == layer);
        let number = number.unwrap_or_else(|| {
            layers.push(layer);
            layers.len() - 1
        });
        if let Some(known) = memory.known(inode)
            && !known.layers.contains(&number)
        {
            known.layers.push(number);
        }
    }
}

impl Memory {
    fn known(&mut self, inode: u64) -> Option<&mut Known> {
        let path = self.by_inode.get(&inode)?;
        self.index.entries.get_mut(path)
    }
}

/// Removes contexts that no build has used for long.
pub fn remove_unused(directory: &Path) {
    let before = Timestamp::now().as_second() - UNUSED_MAX;
    for one in list(directory) {
        if !one.in_use && one.used < before {
            let _ = remove_one(directory, &one.key);
        }
    }
}

/// A context that stays, as it is listed.
pub struct Listed {
    pub key: String,
    /// Seconds since 1970.
    pub used: i64,
    pub in_use: bool,
}

/// All contexts that stay.
pub fn list(directory: &Path) -> Vec<Listed> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let leased = leased().clone();
    let listed = |entry: fs::DirEntry| {
        let path = entry.path();
        let used = path
            .join(INDEX)
            .metadata()
            .and_then(|index| index.modified());
        let used = used.ok().and_then(|time| Timestamp::try_from(time).ok());
        Listed {
            key: entry.file_name().to_string_lossy().into_owned(),
            used: used.map_or(0, Timestamp::as_second),
            in_use: leased.contains(&path),
        }
    };
    entries.map(listed).collect()
}

/// Removes one that no build has; answers whether it did.
///
/// # Errors
/// Those of the file system.
pub fn remove_one(directory: &Path, key: &str) -> Result<bool> {
    let path = directory.join(key);
    if !leased().insert(path.clone()) {
        return Ok(false);
    }
    let removed = remove(&path);
    leased().remove(&path);
    removed
        .map(|()| true)
        .map_err(|error| failed(&path, &error))
}

/// Numbers that follow each other, as ranges.
fn ranges(numbers: BTreeSet<usize>) -> Ranges {
    let mut ranges = Ranges::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, end)) if *end == number => *end += 1,
            _ => ranges.push((number, number + 1)),
        }
    }
    ranges
}

/// Whether a path or a directory that it is in is one of these.
fn is_among(paths: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut above = slashes.map(|(at, _)| &path[..at]);
    !paths.is_empty() && (paths.contains(path) || above.any(|above| paths.contains(above)))
}

fn remove_below(root: &OwnedFd, path: &[u8]) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(path));
    let above = path.parent().unwrap_or(Path::new(""));
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let gone = path_in_root::open(root.as_fd(), above, flags, Mode::empty()).and_then(|parent| {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        cais_sys::tree::remove(parent.as_fd(), &CString::new(name.as_bytes())?)
    });
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// What is at a path that goes through no link.
fn stat(root: &OwnedFd, path: &Path) -> io::Result<Stat> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = openat2(root, path, flags, Mode::empty(), resolve);
    // Of a link itself there is nothing to open without following it, but its parent is known to be none.
    match found {
        Err(Errno::LOOP) => {
            let above = path.parent().unwrap_or(Path::new(""));
            let parent = path_in_root::open(root.as_fd(), above, OFlags::PATH, Mode::empty())?;
            let name = path.file_name().unwrap_or_default();
            Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        found => Ok(rustix::fs::fstat(found?)?),
    }
}

fn leased() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LEASED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This start of the machine (random(4), `boot_id`).
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::internal(format!("build context: {}: {error}", path.display()))
}
