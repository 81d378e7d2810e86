//! What the duties of the engine share: configuration, ports, records and the bus. No behaviour of its own.

use std::path::PathBuf;
use std::sync::Arc;

use cais_state::Db;
use cais_types::api::{LogConfig, Ulimit};
use cais_types::{ContainerId, Error, Result};

use crate::events::Events;
use crate::exec::ExecTable;
use crate::kernel::Kernel;
use crate::launcher::Launcher;
use crate::ports::{RootfsStore, SandboxStore, VolumeStore};
use crate::store::Store;

/// How the engine is set up; from the daemon's flags.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// `--data-root`; containers are kept in `containers/<id>` below it.
    pub data_root: PathBuf,
    /// `--exec-root`; sockets of monitors are in `monitors/` below it.
    pub exec_root: PathBuf,
    /// Parent of all containers' cgroups unless a container names one, absolute within each hierarchy.
    pub cgroup_parent: String,
    /// Whether the host has only cgroup v2; decides the default of `--cgroupns`.
    pub cgroup_v2: bool,
    /// A static program that is bound into containers with `--init` as `/sbin/docker-init`.
    pub init_binary: PathBuf,
    /// `--init` of the daemon.
    pub init_by_default: bool,
    /// `--default-ulimit`.
    pub default_ulimits: Vec<Ulimit>,
    /// `--log-driver` and `--log-opt`.
    pub default_log: LogConfig,
    /// `--default-shm-size`, bytes.
    pub default_shm_size: i64,
    /// Network of a container that names none.
    pub default_network: String,
}

impl EngineConfig {
    /// Docker's defaults, below two roots.
    pub fn new(data_root: PathBuf, exec_root: PathBuf) -> Self {
        Self {
            data_root,
            exec_root,
            cgroup_parent: "/cais".to_owned(),
            cgroup_v2: std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            init_binary: PathBuf::from("/proc/self/exe"),
            init_by_default: false,
            default_ulimits: Vec::new(),
            default_log: LogConfig {
                r#type: "json-file".to_owned(),
                ..LogConfig::default()
            },
            default_shm_size: 64 << 20,
            default_network: "bridge".to_owned(),
        }
    }
}

/// The rooms below, filled by the composition root.
#[derive(Clone)]
pub struct Ports {
    pub rootfs: Arc<dyn RootfsStore>,
    pub volumes: Arc<dyn VolumeStore>,
    pub sandboxes: Arc<dyn SandboxStore>,
    pub launcher: Arc<dyn Launcher>,
    pub kernel: Arc<dyn Kernel>,
}

/// What every duty gets.
pub struct House {
    pub config: EngineConfig,
    pub ports: Ports,
    pub store: Store,
    pub events: Arc<Events>,
    pub execs: ExecTable,
}

impl House {
    /// Reads the records.
    ///
    /// # Errors
    /// Those of the database, and of making the directories.
    pub fn open(config: EngineConfig, ports: Ports, db: Arc<Db>) -> Result<Arc<Self>> {
        for directory in [
            config.data_root.join("containers"),
            config.exec_root.join("monitors"),
        ] {
            std::fs::create_dir_all(&directory).map_err(|error| {
                Error::internal(format!("cannot make {}: {error}", directory.display()))
            })?;
        }
        Ok(Arc::new(Self {
            store: Store::open(db)?,
            config,
            ports,
            events: Arc::new(Events::default()),
            execs: ExecTable::default(),
        }))
    }

    /// A container's own directory.
    pub fn directory(&self, id: &ContainerId) -> PathBuf {
        self.config
            .data_root
            .join("containers")
            .join(id.to_string())
    }

    /// Where a container's monitor listens. Half of the id keeps the path below the 108 bytes of sockaddr_un.
    pub fn socket(&self, id: &ContainerId) -> PathBuf {
        self.config
            .exec_root
            .join("monitors")
            .join(&id.to_string()[..32])
    }

    /// Where the shared memory of a container with shareable IPC is mounted.
    pub fn shm(&self, id: &ContainerId) -> PathBuf {
        self.directory(id).join("shm")
    }

    /// The cgroup of a container, absolute within each hierarchy.
    pub fn cgroup(&self, id: &ContainerId, parent: &str) -> String {
        let parent = if parent.is_empty() {
            &self.config.cgroup_parent
        } else {
            parent
        };
        format!("/{}/{id}", parent.trim_matches('/'))
    }
}

/// Runs blocking work on a thread for it.
///
/// # Errors
/// Those of the work; Internal when it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!(
            "a task of the engine failed: {error}"
        ))),
    }
}
