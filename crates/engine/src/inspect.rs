//! `GET /containers/{id}/json`: from a snapshot; it waits for nothing but the size, when that is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::Result;
use cais_types::api::{ContainerInspect, GraphDriver, HostConfig, NetworkSettings, PortMap};

use crate::container::Container;
use crate::files::EtcFiles;
use crate::house::{House, blocking};
use crate::links;
use crate::logging;
use crate::record::{NetworkMode, Record};

/// The answer of `inspect`; with `size` the layers are measured.
///
/// # Errors
/// Those of measuring.
pub async fn inspect(
    house: &Arc<House>,
    container: &Arc<Container>,
    size: bool,
) -> Result<ContainerInspect> {
    let record = container.record();
    let (mut size_rw, mut size_root_fs) = (None, None);
    if size {
        let (place, seen) = (Arc::clone(house), Arc::clone(&record));
        let (own, all) = blocking(move || place.ports.rootfs.usage(&seen.id, &seen.image)).await?;
        size_rw = i64::try_from(own).ok();
        size_root_fs = i64::try_from(all).ok();
    }
    let directory = house.directory(&record.id);
    let files = EtcFiles::new(&directory);
    let execs = house.execs.of(&record.id);
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let has_run = record.state.started_at != crate::state::NEVER;
    let when_run = |path: std::path::PathBuf| if has_run { text(path) } else { String::new() };
    let logged = record.host_config.log_config.r#type != "none";
    Ok(ContainerInspect {
        id: record.id.to_string(),
        created: record.created.clone(),
        path: record.path.clone(),
        args: record.args.clone(),
        state: record.api_state(),
        image: record.image.to_string(),
        resolv_conf_path: when_run(files.resolv_conf()),
        hostname_path: when_run(files.hostname()),
        hosts_path: when_run(files.hosts()),
        log_path: if logged {
            when_run(logging::path(&record, &directory))
        } else {
            String::new()
        },
        name: record.slash_name(),
        restart_count: i64::try_from(record.restart_count).unwrap_or(i64::MAX),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!execs.is_empty()).then(|| execs.iter().map(|e| e.id.to_string()).collect()),
        host_config: HostConfig {
            links: links::shown(house, &record),
            ..record.host_config.clone()
        },
        graph_driver: graph_driver(house, &record),
        size_rw,
        size_root_fs,
        mounts: record.mount_points(),
        config: record.config.clone(),
        network_settings: network_settings(&record),
        ..ContainerInspect::default()
    })
}

fn graph_driver(house: &House, record: &Record) -> GraphDriver {
    let dirs = house.ports.rootfs.dirs(&record.id, &record.image).ok();
    let data = dirs.map(|dirs| {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let lower: Vec<String> = dirs.lower.iter().map(|path| text(path)).collect();
        BTreeMap::from([
            ("ID".to_owned(), record.id.to_string()),
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), text(&dirs.upper)),
            ("WorkDir".to_owned(), text(&dirs.work)),
        ])
    });
    GraphDriver {
        data,
        name: "overlay2".to_owned(),
    }
}

/// Published ports, and exposed ones with nothing behind them; empty for a container that does not run.
pub fn shown_ports(record: &Record) -> PortMap {
    let shared = matches!(
        record.network_mode(),
        NetworkMode::Container(_) | NetworkMode::Host
    );
    if !record.state.status.has_process() || shared {
        return PortMap::new();
    }
    let exposed = record
        .config
        .exposed_ports
        .keys()
        .map(|port| (port.clone(), None));
    let mut ports: PortMap = exposed.collect();
    for (port, bindings) in &record.network.ports {
        ports.insert(port.clone(), Some(bindings.clone()));
    }
    ports
}

fn network_settings(record: &Record) -> NetworkSettings {
    let networks = record.shown_endpoints();
    let running = record.state.status.has_process();
    let own = running
        && matches!(
            record.network_mode(),
            NetworkMode::Networks | NetworkMode::None
        );
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: if own {
            record.id.to_string()
        } else {
            String::new()
        },
        sandbox_key: if own {
            format!("/proc/{}/ns/net", record.state.pid)
        } else {
            String::new()
        },
        ports: shown_ports(record),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}
