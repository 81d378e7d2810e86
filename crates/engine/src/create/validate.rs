//! Checks of what a user asks for, with Docker's messages: nothing here touches the system.

use std::sync::LazyLock;

use cais_types::api::{ContainerConfig, HealthConfig, HostConfig, PortMap, Resources};
use cais_types::{Error, Result};

use crate::restart::Policy;
use cais_types::signals;

/// Counted once: std reads control groups for it.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// Docker's smallest memory limit, bytes.
const MIN_MEMORY: i64 = 6 << 20;

/// Checks a merged configuration and a host configuration.
///
/// # Errors
/// Class Invalid, or Unsupported for what is not built, in Docker's words.
pub fn check(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    check_config(config)?;
    check_resources(&host.resources)?;
    check_unbuilt(host)?;
    if let Some(ports) = &host.port_bindings {
        check_ports(ports)?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        if !entry.contains(':') && !entry.contains('=') {
            return Err(Error::invalid(format!(
                "bad format for add-host: \"{entry}\""
            )));
        }
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let value = host.oom_score_adj;
        return Err(Error::invalid(format!(
            "Invalid value {value}, range for oom score adj is [-1000, 1000]"
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    let restart = &host.restart_policy;
    let policy = Policy::parse(&restart.name, restart.maximum_retry_count)?;
    if host.auto_remove && policy != Policy::No {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn check_config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal)?;
    }
    if let Some(entry) = config
        .env
        .iter()
        .find(|e| e.is_empty() || e.starts_with('='))
    {
        return Err(Error::invalid(format!(
            "invalid environment variable: {entry}"
        )));
    }
    if config.hostname.len() > 64 {
        return Err(Error::invalid(format!(
            "invalid hostname: {}",
            config.hostname
        )));
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

fn check_health(health: &HealthConfig) -> Result<()> {
    for (name, value) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if value != 0 && value < 1_000_000 {
            return Err(Error::invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// Checks limits; `update` calls this as well.
///
/// # Errors
/// Docker's texts of `verifyPlatformContainerResources`.
pub fn check_resources(resources: &Resources) -> Result<()> {
    check_memory(resources)?;
    check_cpu(resources)?;
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

fn check_memory(resources: &Resources) -> Result<()> {
    let (memory, swap) = (resources.memory, resources.memory_swap);
    let reservation = resources.memory_reservation;
    let text = if memory != 0 && memory < MIN_MEMORY {
        "Minimum memory limit allowed is 6MB"
    } else if memory > 0 && swap > 0 && swap < memory {
        "Minimum memoryswap limit should be larger than memory limit, see usage"
    } else if memory == 0 && swap > 0 {
        "You should always set the Memory limit when using Memoryswap limit, see usage"
    } else if reservation != 0 && reservation < MIN_MEMORY {
        "Minimum memory reservation allowed is 6MB"
    } else if memory > 0 && reservation > 0 && memory < reservation {
        "Minimum memory limit can not be less than memory reservation limit, see usage"
    } else {
        return match resources.memory_swappiness {
            Some(value) if !(-1..=100).contains(&value) => Err(Error::invalid(format!(
                "Invalid value: {value}, valid memory swappiness range is 0-100"
            ))),
            _ => Ok(()),
        };
    };
    Err(Error::invalid(text))
}

fn check_cpu(resources: &Resources) -> Result<()> {
    if resources.nano_cpus > 0 && resources.cpu_period > 0 {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ));
    }
    if resources.nano_cpus > 0 && resources.cpu_quota > 0 {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ));
    }
    let processors = *PROCESSORS;
    let most = i64::try_from(processors)
        .unwrap_or(1)
        .saturating_mul(1_000_000_000);
    if resources.nano_cpus < 0 || resources.nano_cpus > most {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        )));
    }
    let period = resources.cpu_period;
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1000 {
        return Err(Error::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    for (name, value) in [
        ("cpus", &resources.cpuset_cpus),
        ("mems", &resources.cpuset_mems),
    ] {
        if !value
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-'))
        {
            return Err(Error::invalid(format!(
                "Invalid value {value} for cpuset {name}"
            )));
        }
    }
    Ok(())
}

/// Checks how the container shares namespaces. For the configuration as the user gave it: what an image exposes is no
/// conflict.
///
/// # Errors
/// Docker's texts of `runconfig.validateNetMode` and its siblings.
pub fn check_modes(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    for (kind, mode, words) in [
        ("PID", &host.pid_mode, &["", "host"][..]),
        (
            "IPC",
            &host.ipc_mode,
            &["", "host", "private", "shareable", "none"][..],
        ),
        ("UTS", &host.uts_mode, &["", "host"][..]),
        (
            "cgroup namespace",
            &host.cgroupns_mode,
            &["", "host", "private"][..],
        ),
        ("userns", &host.userns_mode, &["", "host"][..]),
    ] {
        let joins = matches!(kind, "PID" | "IPC")
            && mode
                .strip_prefix("container:")
                .is_some_and(|name| !name.is_empty());
        if !joins && !words.contains(&mode.as_str()) {
            return Err(Error::invalid(format!("invalid {kind} mode: {mode}")));
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid(
            "conflicting options: hostname and the UTS mode",
        ));
    }
    check_network_mode(config, host)
}

fn check_network_mode(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if host.network_mode == "host" && has(&host.links) {
        return Err(Error::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined \
             behavior",
        ));
    }
    let Some(other) = host.network_mode.strip_prefix("container:") else {
        return Ok(());
    };
    if other.is_empty() {
        return Err(Error::invalid(
            "Invalid container format container:<name|id>",
        ));
    }
    let published = host
        .port_bindings
        .as_ref()
        .is_some_and(|ports| !ports.is_empty());
    let conflict = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            has(&host.links),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (has(&host.dns), "dns and the network mode"),
        (
            has(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            !config.mac_address.is_empty(),
            "mac-address and the network mode",
        ),
        (
            published || host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (
            !config.exposed_ports.is_empty(),
            "port exposing and the container type network mode",
        ),
    ];
    match conflict.iter().find(|(set, _)| *set) {
        Some((_, what)) => Err(Error::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

fn check_unbuilt(host: &HostConfig) -> Result<()> {
    if !host.storage_opt.is_empty() {
        return Err(Error::unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    if let Some(request) = host.resources.device_requests.iter().flatten().next() {
        return Err(Error::unsupported(format!(
            "could not select device driver \"{}\" with capabilities: {:?}",
            request.driver,
            request.capabilities.as_deref().unwrap_or_default()
        )));
    }
    if !matches!(
        host.runtime.as_str(),
        "" | "runc" | "cais" | "io.containerd.runc.v2"
    ) {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation '{}' on linux",
            host.isolation
        )));
    }
    check_log(host)
}

fn check_log(host: &HostConfig) -> Result<()> {
    let log = &host.log_config;
    if !matches!(log.r#type.as_str(), "" | "json-file" | "none") {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{}' is registered",
            log.r#type
        )));
    }
    if log.r#type == "none" {
        return Ok(());
    }
    for (key, value) in &log.config {
        match (key.as_str(), value.as_str()) {
            ("max-size" | "max-file" | "labels" | "env" | "tag", _)
            | ("compress", "false")
            | ("mode", "" | "blocking") => {}
            ("compress" | "mode" | "max-buffer-size" | "labels-regex" | "env-regex", _) => {
                return Err(Error::unsupported(format!(
                    "log opt '{key}={value}' is not built yet"
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{key}' for json-file log driver"
                )));
            }
        }
    }
    Ok(())
}

fn check_ports(ports: &PortMap) -> Result<()> {
    for (port, bindings) in ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let known = matches!(protocol, "tcp" | "udp" | "sctp");
        if !known || number.parse::<u16>().is_err() {
            return Err(Error::invalid(format!(
                "invalid port specification: \"{port}\""
            )));
        }
        for binding in bindings.iter().flatten() {
            check_binding(&binding.host_ip, &binding.host_port)?;
        }
    }
    Ok(())
}

fn check_binding(address: &str, port: &str) -> Result<()> {
    let fine = port.is_empty()
        || port.split_once('-').map_or_else(
            || port.parse::<u16>().is_ok(),
            |(first, last)| match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => first <= last,
                _ => false,
            },
        );
    if !fine {
        return Err(Error::invalid(format!(
            "invalid port specification: \"{port}\""
        )));
    }
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address: {address}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cais_types::api::PortBinding;

    fn refused(change: impl FnOnce(&mut ContainerConfig, &mut HostConfig)) -> String {
        let (mut config, mut host) = (ContainerConfig::default(), HostConfig::default());
        change(&mut config, &mut host);
        check_modes(&config, &host)
            .and_then(|()| check(&config, &host))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_empty_request_is_fine() {
        check(&ContainerConfig::default(), &HostConfig::default()).unwrap();
    }

    #[test]
    fn limits_are_checked_in_dockers_words() {
        let memory = |memory, swap| {
            refused(|_, host| {
                host.resources.memory = memory;
                host.resources.memory_swap = swap;
            })
        };
        assert_eq!(memory(4 << 20, 0), "Minimum memory limit allowed is 6MB");
        assert!(memory(64 << 20, 8 << 20).starts_with("Minimum memoryswap limit"));
        assert!(memory(0, 8 << 20).starts_with("You should always set the Memory limit"));
        let cpus = refused(|_, host| host.resources.nano_cpus = i64::MAX);
        assert!(cpus.starts_with("range of CPUs is from 0.01 to"), "{cpus}");
        let set = refused(|_, host| host.resources.cpuset_cpus = "one".into());
        assert_eq!(set, "Invalid value one for cpuset cpus");
    }

    #[test]
    fn modes_and_their_conflicts_are_checked() {
        assert_eq!(
            refused(|_, host| host.pid_mode = "x".into()),
            "invalid PID mode: x"
        );
        assert_eq!(
            refused(|_, host| host.ipc_mode = "container:".into()),
            "invalid IPC mode: container:"
        );
        let both = refused(|config, host| {
            config.hostname = "h".into();
            host.network_mode = "container:web".into();
        });
        assert_eq!(both, "conflicting options: hostname and the network mode");
        let remove = refused(|_, host| {
            host.auto_remove = true;
            host.restart_policy.name = "always".into();
        });
        assert_eq!(
            remove,
            "can't create 'AutoRemove' container with restart policy"
        );
    }

    #[test]
    fn ports_and_logs_are_checked() {
        let port = |name: &str, host_port: &str| {
            let binding = PortBinding {
                host_ip: String::new(),
                host_port: host_port.into(),
            };
            refused(|_, host| {
                host.port_bindings = Some([(name.to_owned(), Some(vec![binding]))].into());
            })
        };
        assert_eq!(
            port("80/icmp", ""),
            "invalid port specification: \"80/icmp\""
        );
        assert_eq!(
            port("80/tcp", "99999"),
            "invalid port specification: \"99999\""
        );
        assert_eq!(
            port("80/tcp", "90-80"),
            "invalid port specification: \"90-80\""
        );
        let log = refused(|_, host| host.log_config.r#type = "syslog".into());
        assert_eq!(log, "logger: no log driver named 'syslog' is registered");
        let dir = refused(|config, _| config.working_dir = "rel".into());
        assert!(dir.contains("'rel' is invalid, it needs to be an absolute path"));
    }
}
