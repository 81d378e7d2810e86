//! What is kept of a container: the document in table `container` of the database, and the snapshot that readers see.

use std::collections::BTreeMap;

use cais_state::Durability;
use cais_types::api::{
    ContainerConfig, ContainerState, EndpointSettings, Health, HostConfig, MountPoint, PortBinding,
};
use cais_types::{ContainerId, Digest};
use serde::{Deserialize, Serialize};

use crate::links::{Link, Linked};
use crate::mounts::MountRecord;
use crate::state::{State, Status};

/// The table of container records.
pub const TABLE: &str = "container";
/// The label of a container that runs a step of a build: the id of the build.
pub const BUILD_LABEL: &str = "io.cais.build";

/// Everything about one container that outlives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: ContainerId,
    /// Without the slash.
    pub name: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// Program, as merged from Entrypoint and Cmd.
    pub path: String,
    pub args: Vec<String>,
    pub image: Digest,
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub mounts: Vec<MountRecord>,
    /// What the user asked of each network, by name or id.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What the container has while it runs.
    #[serde(default)]
    pub network: NetworkState,
    /// By network, the IPv4 and IPv6 address that it had when it ran last, and gets again while they are free.
    #[serde(default)]
    pub former_addresses: BTreeMap<String, (String, String)>,
    /// Other containers under names of this one's choice.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What they came to when it started.
    #[serde(default)]
    pub linked: Linked,
    pub state: State,
    #[serde(default)]
    pub restart_count: u64,
    #[serde(default)]
    pub health: Option<Health>,
}

/// The network of a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NetworkState {
    pub endpoints: BTreeMap<String, EndpointSettings>,
    pub ports: BTreeMap<String, Vec<PortBinding>>,
}

/// How a container is connected, from `HostConfig.NetworkMode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    None,
    Host,
    /// Shares the network of another container, by name or id.
    Container(String),
    /// Has a sandbox of its own on these networks.
    Networks,
}

impl Record {
    /// The name as the Engine API shows it.
    pub fn slash_name(&self) -> String {
        format!("/{}", self.name)
    }

    /// How the container is connected.
    pub fn network_mode(&self) -> NetworkMode {
        if self.config.network_disabled {
            return NetworkMode::None;
        }
        match self.host_config.network_mode.as_str() {
            // Who has left `none` may join others.
            "none" if self.endpoints.keys().all(|name| name == "none") => NetworkMode::None,
            "host" => NetworkMode::Host,
            mode => match mode.strip_prefix("container:") {
                Some(other) => NetworkMode::Container(other.to_owned()),
                None => NetworkMode::Networks,
            },
        }
    }

    /// What its record and its files are to outlive. One that vanishes with its process or its build is not worth an fsync.
    pub fn durability(&self) -> Durability {
        if self.auto_remove() || self.config.labels.contains_key(BUILD_LABEL) {
            Durability::Process
        } else {
            Durability::Power
        }
    }

    /// Whether the container goes when it ends.
    pub fn auto_remove(&self) -> bool {
        self.host_config.auto_remove
    }

    /// The state as `inspect` shows it.
    pub fn api_state(&self) -> ContainerState {
        let state = &self.state;
        ContainerState {
            status: state.status.as_str().to_owned(),
            running: state.status.is_running(),
            paused: state.status == Status::Paused,
            restarting: state.status == Status::Restarting,
            oom_killed: state.oom_killed,
            dead: state.status == Status::Dead,
            pid: state.pid.into(),
            exit_code: state.exit_code.into(),
            error: state.error.clone(),
            started_at: state.started_at.clone(),
            finished_at: state.finished_at.clone(),
            health: self.health.clone(),
        }
    }

    /// The endpoints to show: what a running container has, else what it will ask for.
    pub fn shown_endpoints(&self) -> BTreeMap<String, EndpointSettings> {
        if self.state.status.has_process() && !self.network.endpoints.is_empty() {
            self.network.endpoints.clone()
        } else {
            self.endpoints.clone()
        }
    }

    /// The mounts as `inspect` and `ps` show them.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        let point = |mount: &MountRecord| MountPoint {
            r#type: mount.kind.as_str().to_owned(),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: mount.destination.clone(),
            driver: mount.driver.clone(),
            mode: mount.mode.clone(),
            rw: mount.writable,
            propagation: mount.propagation.clone(),
        };
        self.mounts.iter().map(point).collect()
    }
}
