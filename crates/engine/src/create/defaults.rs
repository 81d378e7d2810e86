//! What a container gets when the user says nothing, made explicit in the record so that `inspect` shows it.

use cais_types::ContainerId;
use cais_types::api::{ContainerConfig, HostConfig};

use crate::house::EngineConfig;
use crate::spec::{DEFAULT_READONLY, default_masked};

/// Fills a host configuration.
pub fn host(host: &mut HostConfig, config: &EngineConfig) {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode.clone_from(&config.default_network);
    }
    fill(&mut host.ipc_mode, "private");
    let cgroupns = if config.cgroup_v2 && !host.privileged {
        "private"
    } else {
        "host"
    };
    fill(&mut host.cgroupns_mode, cgroupns);
    fill(&mut host.runtime, "runc");
    if host.shm_size == 0 {
        host.shm_size = config.default_shm_size;
    }
    if host.log_config.r#type.is_empty() {
        host.log_config
            .r#type
            .clone_from(&config.default_log.r#type);
        if host.log_config.config.is_empty() {
            host.log_config
                .config
                .clone_from(&config.default_log.config);
        }
    }
    let resources = &mut host.resources;
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if host.privileged {
        return;
    }
    host.masked_paths
        .get_or_insert_with(|| default_masked().to_vec());
    host.readonly_paths
        .get_or_insert_with(|| DEFAULT_READONLY.map(str::to_owned).to_vec());
}

fn fill(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

/// The host name: the host's own when its UTS namespace or network is shared, else the short id.
pub fn hostname(config: &mut ContainerConfig, host: &HostConfig, id: &ContainerId) {
    if !config.hostname.is_empty() {
        // A full name is split, as Docker does for its own default domain handling.
        return;
    }
    config.hostname = if host.network_mode == "host" || host.uts_mode == "host" {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    } else {
        id.short()
    };
}

/// What is odd about a request without being wrong.
pub fn warnings(host: &HostConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .to_owned(),
        );
    }
    warnings
}
