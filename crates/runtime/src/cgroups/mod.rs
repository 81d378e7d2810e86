//! Control groups: the directories of one container in whatever hierarchies this host has (v1, hybrid or v2), its limits,
//! members and figures. Called by the monitor and the runtime's verbs; no systemd, no D-Bus.

mod block_io;
mod convert;
mod devices;
mod file;
mod hierarchy;
mod members;
mod stats;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cais_types::ErrorClass;

use crate::spec::LinuxResources;
use file::Directory;
use hierarchy::{Controllers, Hierarchies};

pub use stats::{
    BlockIoEntry, BlockIoStats, CpuStats, HugetlbStats, MemoryStats, PidsStats, Stats,
};

/// Where containers with a relative `cgroupsPath` go, below each hierarchy's root.
const DEFAULT_PARENT: &str = "cais";

/// Why a control group cannot be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// This host has no control groups, or they are not mounted.
    #[error("no cgroup hierarchy is mounted at /sys/fs/cgroup")]
    NotMounted,
    /// The path is empty or leaves its hierarchy.
    #[error("invalid cgroup path {0:?}")]
    Path(String),
    /// A directory cannot be made, opened or removed.
    #[error("cgroup directory {path}: {source}")]
    Directory { path: String, source: io::Error },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    /// A file does not take a value.
    #[error("cannot write {value:?} to {path}: {source}")]
    Write {
        path: String,
        value: String,
        source: io::Error,
    },
    /// A limit was asked for that this host cannot enforce.
    #[error("cannot set {resource}: {reason}")]
    Unsupported { resource: String, reason: String },
    /// A limit makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Processes are still there after the time allowed.
    #[error("cgroup {0} is still in use")]
    Busy(String),
    /// The device filter cannot be loaded or attached.
    #[error("device filter: {0}")]
    DeviceFilter(#[source] io::Error),
}

impl CgroupError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Path(_) | Self::Invalid(_) => ErrorClass::Invalid,
            Self::NotMounted | Self::Unsupported { .. } => ErrorClass::Unsupported,
            Self::Busy(_) => ErrorClass::Conflict,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                ErrorClass::Invalid
            }
            Self::Directory { source, .. } | Self::Read { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                ErrorClass::NotFound
            }
            _ => ErrorClass::Internal,
        }
    }
}

impl From<CgroupError> for cais_types::Error {
    fn from(error: CgroupError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

/// Which interface enforces limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller; perhaps a v2 one beside them, without controllers.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The interface of this host.
pub fn version() -> Result<Version, CgroupError> {
    Ok(match hierarchy::found()? {
        Hierarchies::V1 { .. } => Version::V1,
        Hierarchies::V2(_) => Version::V2,
    })
}

/// One directory to show below `/sys/fs/cgroup` in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Name below the mount; empty when this is the mount itself (v2).
    pub name: String,
    /// File system: `cgroup` or `cgroup2`.
    pub kind: &'static str,
    /// Mount data for a mount in a cgroup namespace of its own, as `cpu,cpuacct` or `none,name=systemd`.
    pub options: String,
    /// The container's directory on the host, to bind when there is no cgroup namespace.
    pub host_directory: PathBuf,
    /// Names that must link to `name`, for joint controllers.
    pub links: Vec<String>,
}

/// The control group of one container, in all hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    /// Below each hierarchy's root, without a slash at either end.
    path: String,
    hierarchies: &'static Hierarchies,
    /// The v2 directory, when v2 is all there is.
    directory: Option<OwnedFd>,
    /// The directory in a v2 hierarchy that has no controllers.
    unified: Option<OwnedFd>,
}

impl Cgroup {
    /// Makes the directories and sets the limits. `path` is the OCI `cgroupsPath`: below the roots when absolute, else below
    /// [`DEFAULT_PARENT`]. A directory that is there already is used. On failure nothing that was made stays
    /// behind.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Self, CgroupError> {
        let mut cgroup = Self {
            path: normal(path)?,
            hierarchies: hierarchy::found()?,
            directory: None,
            unified: None,
        };
        let mut made = false;
        let done = cgroup
            .make(&mut made)
            .and_then(|()| cgroup.limit(resources, true));
        if let Err(error) = done {
            // Another's group, which may be in use, stays as it is.
            if made {
                // What was made is empty; a failure to remove it would only hide the first one.
                let _ = cgroup.remove();
            }
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Takes hold of directories that [`Cgroup::create`] made.
    pub fn open(path: &str) -> Result<Self, CgroupError> {
        let mut cgroup = Self {
            path: normal(path)?,
            hierarchies: hierarchy::found()?,
            directory: None,
            unified: None,
        };
        match cgroup.hierarchies {
            Hierarchies::V2(root) => {
                cgroup.directory = Some(Directory::new(root, &cgroup.path).open()?)
            }
            Hierarchies::V1 { .. } => {
                let tracking = cgroup.tracking().open()?;
                cgroup.unified = cgroup.unified().is_some().then_some(tracking);
            }
        }
        Ok(cgroup)
    }

    /// The path below each hierarchy's root, with a slash in front.
    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// Moves a process into the group, in every hierarchy.
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        for hierarchy in self.hierarchies.all() {
            let directory = Directory::new(hierarchy, &self.path);
            match directory.write("cgroup.procs", &pid) {
                // A cpuset without processors or memory takes nobody.
                Err(CgroupError::Write { source, .. })
                    if hierarchy.controllers.has(Controllers::CPUSET)
                        && source.kind() == io::ErrorKind::StorageFull =>
                {
                    v1::inherit_cpuset(hierarchy, &self.path)?;
                    directory.write("cgroup.procs", &pid)?;
                }
                // v2: a container that is its own manager (systemd) keeps its processes in groups below.
                Err(CgroupError::Write { source, .. })
                    if self.directory.is_some() && source.kind() == io::ErrorKind::ResourceBusy =>
                {
                    let child = members::first_populated(&directory)?
                        .ok_or_else(|| CgroupError::Busy(self.path()))?;
                    directory.at(&child).write("cgroup.procs", &pid)?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// The directory for `CLONE_INTO_CGROUP`: a process made in it has only to [`Cgroup::join`].
    pub fn directory_for_clone(&self) -> Option<BorrowedFd<'_>> {
        self.directory
            .as_ref()
            .or(self.unified.as_ref())
            .map(AsFd::as_fd)
    }

    /// The group below whose directory takes a further process instead: a v2 container that is its own manager (systemd) hands
    /// controllers down, and keeps its processes out of the top for that.
    pub fn directory_below_for_clone(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Hierarchies::V2(root) = self.hierarchies else {
            return Ok(None);
        };
        let directory = Directory::new(root, &self.path);
        let handed_down = directory.read_optional("cgroup.subtree_control")?;
        if handed_down.is_none_or(|controllers| controllers.trim().is_empty()) {
            return Ok(None);
        }
        let child = members::first_populated(&directory)?;
        child.map(|child| directory.at(&child).open()).transpose()
    }

    /// Moves the calling process, which has one thread and was made in [`Cgroup::directory_for_clone`], into the v1 hierarchies.
    /// Moving another process, or one that may have threads, would wait for every processor to pass through the kernel's lock.
    pub fn join(&self) -> Result<(), CgroupError> {
        let Hierarchies::V1 { controllers, .. } = self.hierarchies else {
            return Ok(());
        };
        for hierarchy in controllers {
            let directory = Directory::new(hierarchy, &self.path);
            match directory.write("tasks", "0") {
                // A cpuset without processors or memory takes nobody.
                Err(CgroupError::Write { source, .. })
                    if hierarchy.controllers.has(Controllers::CPUSET)
                        && source.kind() == io::ErrorKind::StorageFull =>
                {
                    v1::inherit_cpuset(hierarchy, &self.path)?;
                    directory.write("tasks", "0")?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Changes limits; what is absent stays as it is.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        self.limit(resources, false)
    }

    /// Figures of now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match self.hierarchies {
            Hierarchies::V1 { controllers, .. } => stats::v1(controllers, &self.path),
            Hierarchies::V2(root) => stats::v2(&Directory::new(root, &self.path)),
        }
    }

    /// How many processes the kernel killed here for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let (directory, file) = match self.hierarchies {
            Hierarchies::V1 { .. } => match self.controller(Controllers::MEMORY) {
                Some(memory) => (memory, "memory.oom_control"),
                None => return Ok(0),
            },
            Hierarchies::V2(root) => (Directory::new(root, &self.path), "memory.events"),
        };
        Ok(directory
            .read_optional(file)?
            .and_then(|text| file::value_of(&text, "oom_kill"))
            .unwrap_or(0))
    }

    /// What a `cgroup` mount in a container must show.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        self.hierarchies
            .all()
            .map(|hierarchy| hierarchy.mount_point(&self.path))
            .collect()
    }

    /// Makes the directories; `made` tells, after a failure too, whether one was new.
    fn make(&mut self, made: &mut bool) -> Result<(), CgroupError> {
        match self.hierarchies {
            Hierarchies::V1 { .. } => {
                for hierarchy in self.hierarchies.all() {
                    *made |= v1::make(hierarchy, &self.path)?;
                }
                self.unified = self.unified().map(|unified| unified.open()).transpose()?;
            }
            Hierarchies::V2(root) => {
                *made = v2::make(root, &self.path)?;
                self.directory = Some(Directory::new(root, &self.path).open()?);
            }
        }
        Ok(())
    }

    fn limit(&self, resources: &LinuxResources, fresh: bool) -> Result<(), CgroupError> {
        match self.hierarchies {
            Hierarchies::V1 { .. } => v1::Limits {
                cgroup: self,
                resources,
                fresh,
            }
            .apply(),
            Hierarchies::V2(root) => {
                let directory = Directory::new(root, &self.path);
                v2::apply(&directory, self.directory.as_ref(), resources, fresh)
            }
        }
    }

    /// The directory of a v1 controller.
    fn controller(&self, controller: Controllers) -> Option<Directory<'_>> {
        let Hierarchies::V1 { controllers, .. } = self.hierarchies else {
            return None;
        };
        let found = controllers
            .iter()
            .find(|hierarchy| hierarchy.controllers.has(controller))?;
        Some(Directory::new(found, &self.path))
    }

    /// The v2 directory, in pure v2 or hybrid.
    fn unified(&self) -> Option<Directory<'_>> {
        let root = match self.hierarchies {
            Hierarchies::V2(root) => root,
            Hierarchies::V1 { unified, .. } => unified.as_ref()?,
        };
        Some(Directory::new(root, &self.path))
    }

    /// The directory whose members are the container's processes.
    fn tracking(&self) -> Directory<'_> {
        self.unified()
            .unwrap_or_else(|| Directory::new(self.hierarchies.first(), &self.path))
    }
}

/// A `cgroupsPath` as a path below the roots.
fn normal(path: &str) -> Result<String, CgroupError> {
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") || path.contains(['\0', '\n']) {
        return Err(CgroupError::Path(path.to_owned()));
    }
    let path_below = parts.join("/");
    Ok(if path.starts_with('/') {
        path_below
    } else {
        format!("{DEFAULT_PARENT}/{path_below}")
    })
}
