//! `linux`: namespaces, hidden paths, sysctls, and what the sibling files add.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cais_runtime::spec::{Linux, LinuxNamespace, NamespaceType};
use cais_types::Result;

use super::security::Security;
use super::{Input, devices, has_network_namespace, process, resources};

const DEFAULT_MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker 28 makes read-only in containers.
pub const DEFAULT_READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

pub fn linux(input: &Input<'_>, security: &Security) -> Result<Linux> {
    let record = input.record;
    let host = &record.host_config;
    let bounding = process::bounding(record, host.privileged)?;
    let devices = devices::of(host)?;
    let mut limits = resources::limits(&host.resources)?;
    limits.devices = devices.rules;
    Ok(Linux {
        resources: Some(limits),
        cgroups_path: Some(input.cgroup.clone()),
        namespaces: namespaces(input),
        devices: devices.nodes,
        seccomp: security.seccomp(host.privileged, bounding)?,
        masked_paths: masked(input),
        readonly_paths: readonly(input),
        // Network sysctls belong to the sandbox, which the network room sets up.
        sysctl: host
            .sysctls
            .iter()
            .filter(|(name, _)| !name.starts_with("net.") || !has_network_namespace(record))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        rootfs_propagation: rootfs_propagation(input),
        ..Linux::default()
    })
}

/// Shared and slave binds need a root that passes mounts on.
fn rootfs_propagation(input: &Input<'_>) -> Option<String> {
    let mut found = None;
    for mount in &input.record.mounts {
        match mount.propagation.as_str() {
            "shared" | "rshared" => return Some("shared".to_owned()),
            "slave" | "rslave" => found = Some("slave".to_owned()),
            _ => {}
        }
    }
    found
}

fn masked(input: &Input<'_>) -> Vec<PathBuf> {
    let host = &input.record.host_config;
    if host.privileged {
        return Vec::new();
    }
    match &host.masked_paths {
        Some(paths) => paths.iter().map(PathBuf::from).collect(),
        None => default_masked().iter().map(PathBuf::from).collect(),
    }
}

/// What Docker 28 hides from containers: with the counters per processor that tell one container of another's load
/// (moby GHSA-6fw5-f8r9-fgfm), as far as this host has them.
pub fn default_masked() -> &'static [String] {
    static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let counters = (0..)
            .map(|n| format!("/sys/devices/system/cpu/cpu{n}"))
            .take_while(|path| Path::new(path).exists())
            .map(|path| format!("{path}/thermal_throttle"))
            .filter(|path| Path::new(path).exists());
        DEFAULT_MASKED
            .iter()
            .map(|&path| path.to_owned())
            .chain(counters)
            .collect()
    });
    &PATHS
}

fn readonly(input: &Input<'_>) -> Vec<PathBuf> {
    let host = &input.record.host_config;
    match (&host.readonly_paths, host.privileged) {
        (_, true) => Vec::new(),
        (Some(paths), _) => paths.iter().map(PathBuf::from).collect(),
        (None, _) => DEFAULT_READONLY.iter().map(PathBuf::from).collect(),
    }
}

fn namespaces(input: &Input<'_>) -> Vec<LinuxNamespace> {
    let record = input.record;
    let host = &record.host_config;
    let own = |kind| LinuxNamespace { kind, path: None };
    let mut namespaces = vec![own(NamespaceType::Mount)];
    if has_network_namespace(record) {
        namespaces.push(own(NamespaceType::Network));
    }
    if host.uts_mode != "host" {
        namespaces.push(own(NamespaceType::Uts));
    }
    if host.pid_mode != "host" {
        let path = input.joined.pid.clone();
        namespaces.push(LinuxNamespace {
            kind: NamespaceType::Pid,
            path,
        });
    }
    if host.ipc_mode != "host" {
        let path = input.joined.ipc.clone();
        namespaces.push(LinuxNamespace {
            kind: NamespaceType::Ipc,
            path,
        });
    }
    if host.cgroupns_mode == "private" {
        namespaces.push(own(NamespaceType::Cgroup));
    }
    namespaces
}
