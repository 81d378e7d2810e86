//! What a container asks of the host, and its limits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cais_types::api::{HostConfig, LogConfig, Resources};

use super::{Result, device, env, limit, mount};
use cais_console::flags::Parsed;

/// Checks one `--dns`.
///
/// # Errors
/// It is no address.
pub fn check_address(text: &str) -> Result<()> {
    match text.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// Checks one `--add-host`.
///
/// # Errors
/// As [`extra_host`].
pub fn check_extra_host(text: &str) -> Result<()> {
    extra_host(text).map(drop)
}

/// `name:address` of `--add-host name:address` or `name=address`.
fn extra_host(text: &str) -> Result<String> {
    let equals = text.split_once('=').filter(|(name, _)| !name.contains(':'));
    let Some((name, address)) = equals
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
    else {
        return Err(format!("bad format for add-host: {text:?}"));
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|bare| bare.strip_suffix(']'))
        .unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// Capabilities as the API names them, sorted and once each: `ALL` covers every other one, and what is added is not dropped.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let add = capability_set(add);
    let mut drop = capability_set(drop);
    drop.retain(|name| !add.contains(name));
    (add.into_iter().collect(), drop.into_iter().collect())
}

fn capability_set(names: &[String]) -> BTreeSet<String> {
    let full = |name: &String| match name.trim().to_uppercase() {
        name if name == "ALL" || name == "RESET" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    let set: BTreeSet<String> = names.iter().map(full).collect();
    match set.contains("ALL") {
        true => ["ALL".to_owned()].into(),
        false => set,
    }
}

/// Checks one `--link`.
///
/// # Errors
/// It is neither a name nor `name:alias`.
pub fn check_link(text: &str) -> Result<()> {
    if text.is_empty() || text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(())
}

/// Checks one `--sysctl`.
///
/// # Errors
/// It is outside the namespaces of a container.
pub fn check_sysctl(text: &str) -> Result<()> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match text.split_once('=') {
        Some((name, _)) if NAMES.contains(&name) => Ok(()),
        Some((name, _)) if name.starts_with("net.") || name.starts_with("fs.mqueue.") => Ok(()),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// Reads the flags of this part; ports and networks come from elsewhere.
///
/// # Errors
/// Docker's text for the first bad one.
pub fn parse(args: &Parsed) -> Result<HostConfig> {
    modes(args)?;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let (binds, _) = mount::volumes(&args.list("volume"));
    let mounts = args
        .list("mount")
        .iter()
        .map(|text| mount::parse(text))
        .collect::<Result<_>>()?;
    let security = security(&args.list("security-opt"))?;
    let extra_hosts = args
        .list("add-host")
        .iter()
        .map(|text| extra_host(text))
        .collect::<Result<_>>()?;
    let restart_policy = limit::restart_policy(args.value("restart").unwrap_or("no"))?;
    let auto_remove = args.switch("rm");
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let (cap_add, cap_drop) = capabilities(&args.list("cap-add"), &args.list("cap-drop"));
    Ok(HostConfig {
        binds: some(binds),
        container_id_file: args.string("cidfile"),
        log_config: log_config(args)?,
        restart_policy,
        auto_remove,
        volume_driver: args.string("volume-driver"),
        volumes_from: some(args.list("volumes-from")),
        annotations: env::pairs(&args.list("annotation")),
        cap_add: some(cap_add),
        cap_drop: some(cap_drop),
        cgroupns_mode: args.string("cgroupns"),
        dns: Some(args.list("dns")),
        dns_options: Some(args.list("dns-option")),
        dns_search: Some(args.list("dns-search")),
        extra_hosts: some(extra_hosts),
        group_add: some(args.list("group-add")),
        ipc_mode: args.string("ipc"),
        links: some(args.list("link")),
        oom_score_adj: args.int("oom-score-adj", 0),
        pid_mode: args.string("pid"),
        privileged: args.switch("privileged"),
        publish_all_ports: args.switch("publish-all"),
        readonly_rootfs: args.switch("read-only"),
        security_opt: some(security.options),
        storage_opt: storage_options(&args.list("storage-opt"))?,
        tmpfs: mount::tmpfs_map(&args.list("tmpfs")),
        uts_mode: args.string("uts"),
        userns_mode: args.string("userns"),
        shm_size: args.bytes("shm-size"),
        sysctls: env::pairs(&args.list("sysctl")),
        runtime: args.string("runtime"),
        isolation: args.string("isolation"),
        resources: resources(args)?,
        mounts,
        masked_paths: security.open_paths.then(Vec::new),
        readonly_paths: security.open_paths.then(Vec::new),
        init: args.changed("init").then(|| args.switch("init")),
        ..HostConfig::default()
    })
}

/// Checks the namespace modes.
fn modes(args: &Parsed) -> Result<()> {
    let bad = |flag: &str, good: fn(&str) -> bool| !good(&args.string(flag));
    if bad("pid", |mode| {
        matches!(mode, "" | "host")
            || mode
                .strip_prefix("container:")
                .is_some_and(|id| !id.is_empty())
    }) {
        return Err("--pid: invalid PID mode".into());
    }
    if bad("uts", |mode| matches!(mode, "" | "host")) {
        return Err("--uts: invalid UTS mode".into());
    }
    if bad("userns", |mode| matches!(mode, "" | "host")) {
        return Err("--userns: invalid USER mode".into());
    }
    if bad("cgroupns", |mode| matches!(mode, "" | "host" | "private")) {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    Ok(())
}

fn log_config(args: &Parsed) -> Result<LogConfig> {
    let driver = args.string("log-driver");
    let options = args.list("log-opt");
    if driver == "none" && !options.is_empty() {
        return Err("invalid logging opts for driver none".into());
    }
    Ok(LogConfig {
        r#type: driver,
        config: env::pairs(&options),
    })
}

fn storage_options(entries: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    if entries.iter().any(|entry| !entry.contains('=')) {
        return Err("invalid storage option".into());
    }
    Ok(env::pairs(entries))
}

struct Security {
    options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked or read-only.
    open_paths: bool,
}

/// Reads `--security-opt` values; a seccomp profile is sent by its content.
fn security(entries: &[String]) -> Result<Security> {
    let mut security = Security {
        options: Vec::new(),
        open_paths: false,
    };
    for entry in entries {
        if entry == "systempaths=unconfined" {
            security.open_paths = true;
            continue;
        }
        let pair = entry.split_once('=').or_else(|| entry.split_once(':'));
        let Some((key, value)) = pair else {
            if entry != "no-new-privileges" {
                return Err(format!("Invalid --security-opt: {entry:?}"));
            }
            security.options.push(entry.clone());
            continue;
        };
        if key == "seccomp" && value != "unconfined" && value != "builtin" {
            security
                .options
                .push(format!("seccomp={}", seccomp_profile(value)?));
        } else {
            security.options.push(entry.clone());
        }
    }
    Ok(security)
}

fn seccomp_profile(path: &str) -> Result<String> {
    let text = std::fs::read(path).map_err(|error| {
        format!(
            "opening seccomp profile ({path}) failed: open {path}: {}",
            env::reason(&error)
        )
    })?;
    let compact = serde_json::from_slice::<serde_json::Value>(&text);
    match compact {
        Ok(profile) => Ok(profile.to_string()),
        Err(error) => Err(format!(
            "compacting json for seccomp profile ({path}) failed: {error}"
        )),
    }
}

fn resources(args: &Parsed) -> Result<Resources> {
    let swappiness = args.int("memory-swappiness", -1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let devices = device::devices(&args.list("device"))?;
    let mut requests = devices.requests;
    for text in args.list("gpus") {
        requests.push(device::gpus(&text)?);
    }
    let rates = |flag: &str, read: fn(&str) -> Result<_>| {
        args.list(flag)
            .iter()
            .map(|text| read(text))
            .collect::<Result<Vec<_>>>()
            .map(Some)
    };
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let weights = args.list("blkio-weight-device");
    let ulimits = args.list("ulimit");
    Ok(Resources {
        cpu_shares: args.int("cpu-shares", 0),
        memory: args.bytes("memory"),
        nano_cpus: args.value("cpus").map_or(Ok(0), limit::nano_cpus)?,
        cgroup_parent: args.string("cgroup-parent"),
        blkio_weight: u16::try_from(args.int("blkio-weight", 0)).unwrap_or(0),
        blkio_weight_device: Some(
            weights
                .iter()
                .map(|text| limit::weight(text))
                .collect::<Result<_>>()?,
        ),
        blkio_device_read_bps: rates("device-read-bps", limit::byte_rate)?,
        blkio_device_write_bps: rates("device-write-bps", limit::byte_rate)?,
        blkio_device_read_iops: rates("device-read-iops", limit::operation_rate)?,
        blkio_device_write_iops: rates("device-write-iops", limit::operation_rate)?,
        cpu_period: args.int("cpu-period", 0),
        cpu_quota: args.int("cpu-quota", 0),
        cpu_realtime_period: args.int("cpu-rt-period", 0),
        cpu_realtime_runtime: args.int("cpu-rt-runtime", 0),
        cpuset_cpus: args.string("cpuset-cpus"),
        cpuset_mems: args.string("cpuset-mems"),
        devices: Some(devices.mappings),
        device_cgroup_rules: some(args.list("device-cgroup-rule")),
        device_requests: (!requests.is_empty()).then_some(requests),
        kernel_memory: args.bytes("kernel-memory"),
        memory_reservation: args.bytes("memory-reservation"),
        memory_swap: args.bytes("memory-swap"),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(args.switch("oom-kill-disable")),
        pids_limit: Some(args.int("pids-limit", 0)),
        ulimits: Some(
            ulimits
                .iter()
                .map(|text| limit::ulimit(text))
                .collect::<Result<_>>()?,
        ),
        cpu_count: args.int("cpu-count", 0),
        cpu_percent: args.int("cpu-percent", 0),
        io_maximum_iops: u64::try_from(args.int("io-maxiops", 0)).unwrap_or(0),
        io_maximum_bandwidth: u64::try_from(args.bytes("io-maxbandwidth")).unwrap_or(0),
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_have_two_forms() {
        assert_eq!(extra_host("a:1.2.3.4").unwrap(), "a:1.2.3.4");
        assert_eq!(extra_host("a=::1").unwrap(), "a:::1");
        assert_eq!(extra_host("a:[::1]").unwrap(), "a:::1");
        assert_eq!(extra_host("a:host-gateway").unwrap(), "a:host-gateway");
        assert_eq!(
            extra_host("foo").unwrap_err(),
            "bad format for add-host: \"foo\""
        );
        assert_eq!(
            extra_host("a:x").unwrap_err(),
            "invalid IP address in add-host: \"x\""
        );
    }

    #[test]
    fn capabilities_have_one_spelling() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            capabilities(
                &names(&["sys_admin", "CAP_CHOWN", "chown"]),
                &names(&["CHOWN", "kill"])
            ),
            (names(&["CAP_CHOWN", "CAP_SYS_ADMIN"]), names(&["CAP_KILL"]))
        );
        assert_eq!(
            capabilities(&[], &names(&["kill", "all"])),
            (names(&[]), names(&["ALL"]))
        );
    }

    #[test]
    fn security_options() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profile.json");
        std::fs::write(&path, "{ \"b\": 1,\n \"a\": [ ] }").unwrap();
        let entries = [
            format!("seccomp={}", path.display()),
            "no-new-privileges".into(),
            "label:disable".into(),
            "systempaths=unconfined".into(),
        ];
        let security = security(&entries).unwrap();
        assert_eq!(
            security.options,
            [
                "seccomp={\"b\":1,\"a\":[]}",
                "no-new-privileges",
                "label:disable"
            ]
        );
        assert!(security.open_paths);
        assert!(super::security(&["x".into()]).is_err());
    }
}
