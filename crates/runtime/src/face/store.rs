//! The state directory: one directory per container with its facts (`state.json`) and, until it is started, the socket that its
//! init waits at.
//!
//! `state.json` is one object: the facts and, as `spec`, the container's `config.json` word for word.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, said};
use crate::cgroups::Cgroup;
use crate::spec::{Spec, Status};

/// Where containers are kept.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// The facts of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`; tells init from a later process with the same number.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub cgroup: String,
    pub annotations: BTreeMap<String, String>,
}

/// A container that is known here.
#[derive(Debug)]
pub struct Container {
    pub directory: PathBuf,
    pub record: Record,
    /// The whole of `state.json`.
    text: Vec<u8>,
}

const STATE: &str = "state.json";
const STARTER: &str = "start.sock";

impl Store {
    /// Below the directory given or the usual one.
    pub fn new(root: Option<&str>) -> Self {
        let usual = || {
            let own = std::env::var_os("XDG_RUNTIME_DIR");
            match own.filter(|_| !rustix::process::geteuid().is_root()) {
                Some(own) => Path::new(&own).join("cais-runtime"),
                None => PathBuf::from("/run/cais-runtime"),
            }
        };
        Self {
            root: root.map_or_else(usual, PathBuf::from),
        }
    }

    fn directory(&self, id: &str) -> Result<PathBuf> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() {
            return said("container id cannot be empty");
        }
        if !id.bytes().all(allowed) || id == "." || id == ".." {
            return said("invalid container ID format");
        }
        Ok(self.root.join(id))
    }

    /// Takes an id for a new container: the directory, which is its claim.
    pub fn claim(&self, id: &str) -> Result<PathBuf> {
        let directory = self.directory(id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711);
        let made = match builder.create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut parents = fs::DirBuilder::new();
                parents
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.root)
                    .map_err(super::io(self.root.display()))?;
                builder.create(&directory)
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                said("container with given ID already exists")
            }
            Err(error) => Err(super::io(directory.display())(error)),
        }
    }

    /// Reads a container.
    pub fn load(&self, id: &str) -> Result<Container> {
        let directory = self.directory(id)?;
        let text = match fs::read(directory.join(STATE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return said("container does not exist");
            }
            Err(error) => return Err(super::io(directory.display())(error)),
        };
        let record = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(super::io(directory.display()))?;
        Ok(Container {
            directory,
            record,
            text,
        })
    }

    /// Removes what a maker that was killed has left of a container without facts.
    pub fn sweep(&self, id: &str) -> Result<()> {
        let _ = fs::remove_dir_all(self.directory(id)?);
        Ok(())
    }

    /// All containers in order of their ids; those that vanish meanwhile are left out.
    pub fn all(&self) -> Result<Vec<Container>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(super::io(self.root.display())(error)),
        };
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        Ok(names.iter().filter_map(|id| self.load(id).ok()).collect())
    }
}

/// Where init of a container waits for its start.
pub fn starter(directory: &Path) -> PathBuf {
    directory.join(STARTER)
}

impl Container {
    /// Writes the facts of a container; a reader sees all or nothing.
    pub fn save(directory: PathBuf, record: Record, config: &[u8]) -> Result<Self> {
        let failed = || super::io(format!("write {}", directory.join(STATE).display()));
        let mut text = serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .map_err(failed())?;
        text.pop();
        text.extend_from_slice(b",\"spec\":");
        text.extend_from_slice(config);
        text.push(b'}');
        let fresh = directory.join(".state.json");
        fs::write(&fresh, &text)
            .and_then(|()| fs::rename(&fresh, directory.join(STATE)))
            .map_err(failed())?;
        Ok(Self {
            directory,
            record,
            text,
        })
    }

    /// The specification it was made from.
    pub fn spec(&self) -> Result<Spec> {
        #[derive(Deserialize)]
        struct WithSpec {
            spec: Spec,
        }
        let parsed: WithSpec = serde_json::from_slice(&self.text)
            .map_err(io::Error::from)
            .map_err(super::io(self.directory.display()))?;
        Ok(parsed.spec)
    }

    /// Init, when it still runs: held by a descriptor, and told from a later process by its start time.
    pub fn init(&self) -> Option<OwnedFd> {
        let pidfd = cais_sys::pidfd::open(self.record.pid).ok()?;
        let (state, start_time) = cais_sys::pidfd::stat(self.record.pid).ok()?;
        let same = start_time == self.record.start_time && !matches!(state, b'Z' | b'X');
        (same && cais_sys::pidfd::is_alive(pidfd.as_fd()).unwrap_or(false)).then_some(pidfd)
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        match self.init() {
            None => Status::Stopped,
            Some(_) => self.live_status(),
        }
    }

    /// As [`Container::status`], for a container whose init runs.
    pub fn live_status(&self) -> Status {
        if self
            .cgroup()
            .and_then(|cgroup| cgroup.is_frozen())
            .unwrap_or(false)
        {
            Status::Paused
        } else if starter(&self.directory).exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Removes the facts.
    pub fn forget(&self) -> Result<()> {
        let _ = fs::remove_file(self.directory.join(STATE));
        let gone = fs::remove_dir(&self.directory).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => fs::remove_dir_all(&self.directory),
        });
        gone.map_err(super::io(self.directory.display()))
    }

    /// Its control group.
    pub fn cgroup(&self) -> Result<Cgroup, crate::cgroups::CgroupError> {
        Cgroup::open(&self.record.cgroup)
    }
}
