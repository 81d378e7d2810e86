//! The volumes of one data root.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cais_state::{Db, Durability};
use cais_types::ContainerId;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::copy::{copy_tree, is_empty};
use crate::error::VolumeError;
use crate::mounts;
use crate::volume::{ANONYMOUS, ListFilter, Record, Volume, VolumeRequest, check_name};

const TABLE: &str = "volume";
const DATA: &str = "_data";
const LOCAL: &str = "local";

/// How much of a volume is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Containers that use it.
    pub references: usize,
    /// Bytes in files.
    pub size: u64,
}

/// What pruning removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub names: Vec<String>,
    /// Bytes in files.
    pub freed: u64,
}

/// All volumes. Calls block; share it behind an `Arc`.
pub struct Store {
    path: PathBuf,
    directory: OwnedFd,
    db: Arc<Db>,
    volumes: RwLock<BTreeMap<String, Record>>,
    /// Held over every change; lists never take it. The volumes whose options are mounted.
    change: Mutex<HashSet<String>>,
    /// Held while a volume is filled, which may take long and must not keep other containers waiting.
    fill: Mutex<()>,
}

impl Store {
    /// Opens the volumes below `data_root`. Volumes whose directory is missing get a new, empty one.
    pub fn open(data_root: &Path, db: Arc<Db>) -> Result<Self, VolumeError> {
        let path = data_root.join("volumes");
        let mode = Mode::from_raw_mode(0o701);
        match rustix::fs::mkdir(&path, mode) {
            Ok(()) => rustix::fs::chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty())
                .map_err(|errno| VolumeError::io("chmod", &path, errno))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(VolumeError::io("mkdir", &path, errno)),
        }
        let directory = open_directory(&path)?;
        let volumes: BTreeMap<_, _> = db.all::<Record>(TABLE)?.into_iter().collect();
        let store = Self {
            path,
            directory,
            db,
            volumes: RwLock::new(volumes),
            change: Mutex::default(),
            fill: Mutex::default(),
        };
        let records: Vec<_> = store.read().clone().into_iter().collect();
        for (name, record) in records {
            store.make_directory(&name)?;
            if !record.options.is_empty() && is_mount_point(&store.data(&name))? {
                store.changing().insert(name);
            }
        }
        Ok(store)
    }

    /// Makes a volume; one of that name with the same options is no error and stays as it is.
    pub fn create(&self, request: &VolumeRequest) -> Result<Volume, VolumeError> {
        let _changing = self.changing();
        self.create_locked(request)
    }

    /// Finds a volume; else `get NAME: no such volume`.
    pub fn inspect(&self, name: &str) -> Result<Volume, VolumeError> {
        let volumes = self.read();
        let record = volumes.get(name);
        let record = record.ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))?;
        Ok(self.describe(name, record))
    }

    /// The volumes that a filter shows, by name.
    pub fn list(&self, filter: &ListFilter) -> Vec<Volume> {
        let volumes = self.read();
        let all = volumes
            .iter()
            .map(|(name, record)| self.describe(name, record));
        all.filter(|volume| filter.matches(volume)).collect()
    }

    /// Removes a volume that no container uses; with `force` a missing one is no error.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), VolumeError> {
        let mut changing = self.changing();
        match self.inspect(name) {
            Ok(volume) if !volume.users.is_empty() => {
                let users: Vec<_> = volume.users.iter().map(ToString::to_string).collect();
                Err(VolumeError::InUse(name.to_owned(), users.join(" ")))
            }
            Ok(_) => self.delete(name, &mut changing),
            Err(VolumeError::NoSuchVolume(_)) if force => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes volumes that no container uses and the filter shows: anonymous ones, with `all` also named ones.
    pub fn prune(&self, all: bool, filter: &ListFilter) -> Result<Pruned, VolumeError> {
        let mut pruned = Pruned::default();
        for volume in self.list(filter) {
            if !all && !volume.is_anonymous() {
                continue;
            }
            let mut changing = self.changing();
            // Asked again: it may have been taken into use since it was listed.
            let unused = |now: Volume| now.users.is_empty();
            if !self.inspect(&volume.name).is_ok_and(unused) {
                continue;
            }
            let size = self.size(&volume.name)?;
            self.delete(&volume.name, &mut changing)?;
            pruned.freed += size;
            pruned.names.push(volume.name);
        }
        Ok(pruned)
    }

    /// How much of a volume is used; walks its files.
    pub fn usage(&self, name: &str) -> Result<Usage, VolumeError> {
        let references = self.inspect(name)?.users.len();
        let size = self.size(name)?;
        Ok(Usage { references, size })
    }

    /// Makes a volume if it is missing and marks it used by the container. `name: None` makes an anonymous one. Answers
    /// its name and its directory on the host.
    pub fn acquire(
        &self,
        name: Option<&str>,
        driver: &str,
        container: &ContainerId,
    ) -> Result<(String, PathBuf), VolumeError> {
        let mut changing = self.changing();
        let request = VolumeRequest {
            name: name.unwrap_or_default().to_owned(),
            driver: driver.to_owned(),
            ..VolumeRequest::default()
        };
        let existing = self.read().get(&request.name).cloned();
        let name = match existing {
            Some(_) => request.name.clone(),
            None => self.create_locked(&request)?.name,
        };
        let target = self.data(&name);
        self.mount_once(&name, &target, &mut changing)?;
        self.update(&name, |record| {
            record.users.insert(*container);
        })?;
        Ok((name, target))
    }

    /// Fills an empty volume from a directory of the image; a volume that has been filled or has contents is left
    /// alone. `source` is an open directory of the container's root. When copying fails, the volume is empty again.
    pub fn copy_up(&self, name: &str, source: OwnedFd) -> Result<(), VolumeError> {
        let _filling = self.fill.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.read().get(name).cloned();
        let record = record.ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))?;
        if record.filled {
            return Ok(());
        }
        let path = self.data(name);
        let target = open_directory(&path)?;
        let fail = |error| VolumeError::io("copy", &path, error);
        if record.filling {
            clear(target.as_fd());
        }
        if !is_empty(target.as_fd()).map_err(fail)? {
            return Ok(());
        }
        self.update_alone(name, |record| record.filling = true)?;
        let copied = copy_tree(source.as_fd(), target.as_fd());
        if copied.is_err() {
            clear(target.as_fd());
        }
        self.update_alone(name, |record| {
            record.filling = false;
            record.filled = copied.is_ok();
        })?;
        copied.map_err(fail)
    }

    /// Ends the use by a container; with `remove_anonymous` its anonymous volumes go as well.
    pub fn release(
        &self,
        container: &ContainerId,
        remove_anonymous: bool,
    ) -> Result<(), VolumeError> {
        let mut changing = self.changing();
        let uses = |record: &Record| record.users.contains(container);
        let names: Vec<_> = {
            let volumes = self.read();
            let used = volumes.iter().filter(|(_, record)| uses(record));
            used.map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            self.update(&name, |record| {
                record.users.remove(container);
            })?;
            let volume = self.inspect(&name)?;
            if !volume.users.is_empty() {
                continue;
            }
            if changing.remove(&name) {
                mounts::unmount(&self.data(&name));
            }
            if remove_anonymous && volume.is_anonymous() {
                self.delete(&name, &mut changing)?;
            }
        }
        Ok(())
    }

    /// Ends the use by every container that is not in `known`; called once at start.
    pub fn retain(&self, known: &[ContainerId]) -> Result<(), VolumeError> {
        let users: HashSet<ContainerId> = {
            let volumes = self.read();
            volumes
                .values()
                .flat_map(|record| record.users.iter().copied())
                .collect()
        };
        for gone in users.iter().filter(|user| !known.contains(user)) {
            self.release(gone, true)?;
        }
        Ok(())
    }

    fn create_locked(&self, request: &VolumeRequest) -> Result<Volume, VolumeError> {
        if !matches!(&*request.driver, "" | LOCAL) {
            return Err(VolumeError::NoSuchDriver(request.driver.clone()));
        }
        let mut record = Record {
            created: now(),
            labels: request.labels.clone(),
            options: request.options.clone(),
            ..Record::default()
        };
        let name = if request.name.is_empty() {
            record.labels.insert(ANONYMOUS.to_owned(), String::new());
            random_name()?
        } else {
            check_name(&request.name)?;
            request.name.clone()
        };
        mounts::request(&name, &request.options)?;
        let existing = self.read().get(&name).cloned();
        if let Some(existing) = existing {
            if !request.options.is_empty() && existing.options != request.options {
                return Err(VolumeError::OtherOptions(name));
            }
            return Ok(self.describe(&name, &existing));
        }
        self.make_directory(&name)?;
        if let Err(error) = self.db.put(Durability::Process, TABLE, &name, &record) {
            self.delete_files(&name)?;
            return Err(error.into());
        }
        let volume = self.describe(&name, &record);
        self.write().insert(name, record);
        Ok(volume)
    }

    /// Deletes record and files. The record goes first: what is left of the files then belongs to nobody and a volume
    /// of the same name starts with them swept.
    fn delete(&self, name: &str, mounted: &mut HashSet<String>) -> Result<(), VolumeError> {
        if mounted.remove(name) {
            mounts::unmount(&self.data(name));
        }
        self.db.delete(Durability::Process, TABLE, name)?;
        self.write().remove(name);
        self.delete_files(name)
    }

    fn delete_files(&self, name: &str) -> Result<(), VolumeError> {
        let fail = |error| VolumeError::io("remove", self.path.join(name), error);
        let text = std::ffi::CString::new(name).map_err(|error| fail(error.into()))?;
        cais_sys::tree::remove(self.directory.as_fd(), &text).map_err(fail)
    }

    fn make_directory(&self, name: &str) -> Result<(), VolumeError> {
        if !self.read().contains_key(name) {
            self.delete_files(name)?;
        }
        for (path, mode) in [(self.path.join(name), 0o701), (self.data(name), 0o755)] {
            let mode = Mode::from_raw_mode(mode);
            match rustix::fs::mkdir(&path, mode) {
                Ok(()) => rustix::fs::chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty())
                    .map_err(|errno| VolumeError::io("chmod", &path, errno))?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(VolumeError::io("mkdir", &path, errno)),
            }
        }
        Ok(())
    }

    /// Mounts what the options ask for, on first use. A daemon that died may have left the mount behind.
    fn mount_once(
        &self,
        name: &str,
        target: &Path,
        mounted: &mut HashSet<String>,
    ) -> Result<(), VolumeError> {
        let options = self.read().get(name).map(|record| record.options.clone());
        let request = mounts::request(name, &options.unwrap_or_default())?;
        let Some(request) = request.filter(|_| !mounted.contains(name)) else {
            return Ok(());
        };
        if !is_mount_point(target)? {
            mounts::mount(&request, target)?;
        }
        mounted.insert(name.to_owned());
        Ok(())
    }

    fn update_alone(
        &self,
        name: &str,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), VolumeError> {
        let _changing = self.changing();
        self.update(name, change)
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut Record)) -> Result<(), VolumeError> {
        let record = self.read().get(name).cloned();
        let mut record = record.ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))?;
        change(&mut record);
        // Also the end of a use, without which nothing could be removed from a full disk.
        self.db
            .put_with_reserve(Durability::Process, TABLE, name, &record)?;
        self.write().insert(name.to_owned(), record);
        Ok(())
    }

    fn describe(&self, name: &str, record: &Record) -> Volume {
        Volume {
            name: name.to_owned(),
            driver: LOCAL.to_owned(),
            mountpoint: self.data(name).display().to_string(),
            created: record.created.clone(),
            labels: record.labels.clone(),
            options: record.options.clone(),
            users: record.users.clone(),
        }
    }

    fn size(&self, name: &str) -> Result<u64, VolumeError> {
        let path = self.data(name);
        let directory = open_directory(&path)?;
        cais_sys::tree::usage(directory.as_fd())
            .map_err(|error| VolumeError::io("readdir", &path, error))
    }

    fn data(&self, name: &str) -> PathBuf {
        self.path.join(name).join(DATA)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Record>> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Record>> {
        self.volumes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, HashSet<String>> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empties a directory as far as that goes.
fn clear(directory: std::os::fd::BorrowedFd<'_>) {
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let _ = cais_sys::tree::remove(directory, name);
        }
    }
}

fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let fail = |errno| VolumeError::io("stat", path, errno);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let mask = rustix::fs::StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, mask).map_err(fail)?;
    Ok(stat
        .stx_attributes
        .contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

fn open_directory(path: &Path) -> Result<OwnedFd, VolumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| VolumeError::io("open", path, errno))
}

fn now() -> String {
    let now = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(now).map_or_else(|_| String::new(), |now| now.to_string())
}

fn random_name() -> Result<String, VolumeError> {
    let mut bytes = [0; 32];
    let flags = rustix::rand::GetRandomFlags::empty();
    rustix::rand::getrandom(&mut bytes, flags)
        .map_err(|errno| VolumeError::io("getrandom", "volume name", errno))?;
    Ok(hex::encode(bytes))
}
