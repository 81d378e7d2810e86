//! `GET /info`, `GET /version` and `GET /system/df`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::api::query::{ContainerListQuery, Filters, ImageListQuery};
use cais_types::api::{
    Commit, ComponentVersion, DiskUsage, FirewallInfo, NetworkAddressPool, PluginsInfo,
    RegistryConfig, RuntimeInfo, SwarmInfo, SystemInfo, SystemVersion, VersionPlatform,
};
use cais_types::{Error, Result};

use super::{images::Images, volumes::Volumes};
use cais_engine::house::House;
use cais_engine::listing;
use cais_engine::state::Status;

/// What the daemon knows of itself and the services do not.
#[derive(Clone, Debug, Default)]
pub struct DaemonFacts {
    /// Stays the same over restarts.
    pub id: String,
    pub version: String,
    pub labels: Vec<String>,
    pub debug: bool,
    pub address_pools: Vec<NetworkAddressPool>,
    pub registries: RegistryConfig,
    /// For HTTP, for HTTPS, and for whom there is none.
    pub proxies: [String; 3],
}

/// Answers about the whole engine.
pub struct System {
    house: Arc<House>,
    images: Arc<Images>,
    volumes: Arc<Volumes>,
    facts: DaemonFacts,
}

impl System {
    /// Joins what the answers are made from.
    pub fn new(
        house: Arc<House>,
        images: Arc<Images>,
        volumes: Arc<Volumes>,
        facts: DaemonFacts,
    ) -> Self {
        Self {
            house,
            images,
            volumes,
            facts,
        }
    }

    /// `GET /version`.
    pub fn version(&self) -> SystemVersion {
        let kernel = rustix::system::uname();
        let version = self.facts.version.clone();
        let details = [
            ("ApiVersion", "1.51"),
            ("Arch", architecture().1),
            ("Experimental", "false"),
            ("KernelVersion", &kernel.release().to_string_lossy()),
            ("MinAPIVersion", "1.24"),
            ("Os", "linux"),
        ];
        let details = details
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        SystemVersion {
            platform: VersionPlatform {
                name: "cais".to_owned(),
            },
            components: vec![ComponentVersion {
                name: "Engine".to_owned(),
                version: version.clone(),
                details,
            }],
            version,
            api_version: "1.51".to_owned(),
            min_api_version: "1.24".to_owned(),
            os: "linux".to_owned(),
            arch: architecture().1.to_owned(),
            kernel_version: kernel.release().to_string_lossy().into_owned(),
            ..SystemVersion::default()
        }
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// Those of the image store.
    pub async fn info(&self) -> Result<SystemInfo> {
        let kernel = rustix::system::uname();
        let v2 = self.house.config.cgroup_v2;
        let [http_proxy, https_proxy, no_proxy] = self.facts.proxies.clone();
        let mut info = SystemInfo {
            http_proxy,
            https_proxy,
            no_proxy,
            id: self.facts.id.clone(),
            images: i64::try_from(self.images.count().await?).unwrap_or(i64::MAX),
            driver: "overlay2".to_owned(),
            driver_status: driver_status(),
            plugins: plugins(),
            ipv4_forwarding: flag("/proc/sys/net/ipv4/ip_forward"),
            debug: self.facts.debug,
            n_fd: std::fs::read_dir("/proc/self/fd")
                .map_or(0, |entries| i64::try_from(entries.count()).unwrap_or(0)),
            system_time: cais_engine::time::now(),
            logging_driver: self.house.config.default_log.r#type.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if v2 { "2" } else { "1" }.to_owned(),
            kernel_version: kernel.release().to_string_lossy().into_owned(),
            operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: os_release("VERSION_ID").unwrap_or_default(),
            os_type: "linux".to_owned(),
            architecture: architecture().0.to_owned(),
            registry_config: self.facts.registries.clone(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            n_cpu: std::thread::available_parallelism()
                .map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            mem_total: memory_total(),
            docker_root_dir: self.house.config.data_root.to_string_lossy().into_owned(),
            name: kernel.nodename().to_string_lossy().into_owned(),
            labels: self.facts.labels.clone(),
            server_version: self.facts.version.clone(),
            runtimes: BTreeMap::from([(
                "cais".to_owned(),
                RuntimeInfo {
                    path: "cais runtime".to_owned(),
                    ..RuntimeInfo::default()
                },
            )]),
            default_runtime: "cais".to_owned(),
            swarm: SwarmInfo {
                local_node_state: "inactive".to_owned(),
                ..SwarmInfo::default()
            },
            live_restore_enabled: true,
            init_binary: "docker-init".to_owned(),
            init_commit: Commit::default(),
            security_options: vec!["name=seccomp,profile=builtin".to_owned()],
            default_address_pools: self.facts.address_pools.clone(),
            firewall_backend: Some(FirewallInfo {
                driver: "nftables".to_owned(),
                info: Vec::new(),
            }),
            ..SystemInfo::default()
        };
        if v2 {
            info.security_options.push("name=cgroupns".to_owned());
        }
        self.count_containers(&mut info);
        limits(&mut info, v2);
        Ok(info)
    }

    fn count_containers(&self, info: &mut SystemInfo) {
        for container in self.house.store.all() {
            info.containers += 1;
            match container.record().state.status {
                Status::Paused => info.containers_paused += 1,
                Status::Running | Status::Restarting => info.containers_running += 1,
                _ => info.containers_stopped += 1,
            }
        }
    }

    /// `GET /system/df`; an empty list of types asks for all.
    ///
    /// # Errors
    /// Invalid: an unknown type; else those of the stores.
    pub async fn disk_usage(&self, types: &[String]) -> Result<DiskUsage> {
        if let Some(odd) = types.iter().find(|name| {
            !matches!(
                name.as_str(),
                "container" | "image" | "volume" | "build-cache"
            )
        }) {
            return Err(Error::invalid(format!("unknown object type: {odd}")));
        }
        let wants = |name: &str| types.is_empty() || types.iter().any(|wanted| wanted == name);
        let mut usage = DiskUsage::default();
        if wants("image") {
            let query = ImageListQuery {
                all: true,
                shared_size: true,
                ..ImageListQuery::default()
            };
            usage.images = Some(self.images.list(query).await?);
            usage.layers_size = self.images.layers_size().await?.cast_signed();
        }
        if wants("container") {
            let query = ContainerListQuery {
                all: true,
                size: true,
                ..ContainerListQuery::default()
            };
            usage.containers = Some(listing::list(&self.house, query).await?);
        }
        if wants("volume") {
            usage.volumes = Some(self.volumes.list_with_usage(Filters::default()).await?);
        }
        if wants("build-cache") {
            usage.build_cache = Some(Vec::new());
        }
        Ok(usage)
    }
}

/// The kernel's and Docker's names of this machine.
fn architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("x86_64", "amd64"),
        "aarch64" => ("aarch64", "arm64"),
        other => (other, other),
    }
}

fn driver_status() -> Vec<[String; 2]> {
    [
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ]
    .map(|(key, value)| [key.to_owned(), value.to_owned()])
    .into()
}

fn plugins() -> PluginsInfo {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    PluginsInfo {
        volume: words(&["local"]),
        network: words(&["bridge", "host", "null"]),
        authorization: None,
        log: words(&["json-file", "none"]),
    }
}

/// Which limits the kernel can set.
fn limits(info: &mut SystemInfo, v2: bool) {
    let exists = |v1: &str, unified: bool| {
        if v2 {
            unified
        } else {
            std::path::Path::new("/sys/fs/cgroup").join(v1).exists()
        }
    };
    info.memory_limit = exists("memory/memory.limit_in_bytes", true);
    info.swap_limit = exists("memory/memory.memsw.limit_in_bytes", true);
    info.cpu_cfs_period = exists("cpu/cpu.cfs_period_us", true);
    info.cpu_cfs_quota = exists("cpu/cpu.cfs_quota_us", true);
    info.cpu_shares = exists("cpu/cpu.shares", true);
    info.cpu_set = exists("cpuset/cpuset.cpus", true);
    info.pids_limit = exists("pids", true);
    info.oom_kill_disable = exists("memory/memory.oom_control", false);
    if !info.swap_limit {
        info.warnings
            .get_or_insert_default()
            .push("WARNING: No swap limit support".to_owned());
    }
}

fn flag(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then(|| value.trim_matches('"').to_owned())
    })
}

/// Bytes of memory the machine has.
pub fn memory_total() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| {
        rest.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<i64>()
            .ok()
    })
    .map_or(0, |kib| kib * 1024)
}
