//! From a record to the request for a network sandbox, and from a ready sandbox to the files that name its addresses.

use std::collections::BTreeMap;

use cais_types::Result;
use cais_types::api::{EndpointSettings, PortBinding};

use crate::files::{self, EtcFiles, OwnAddress};
use crate::ports::{DnsWish, PortRequest, Sandbox, SandboxRequest, SandboxStore};
use crate::record::{NetworkMode, Record};
use crate::spec::hostname;

/// The request for a container with a sandbox of its own; `None` when it shares one or needs none.
pub fn request(record: &Record) -> Option<SandboxRequest> {
    let endpoints = match record.network_mode() {
        NetworkMode::Networks => endpoints(record),
        NetworkMode::None => BTreeMap::new(),
        NetworkMode::Host | NetworkMode::Container(_) => return None,
    };
    Some(SandboxRequest {
        container: record.id,
        name: record.name.clone(),
        ports: if endpoints.is_empty() {
            Vec::new()
        } else {
            ports(record)
        },
        endpoints,
        sysctls: sysctls(record),
        dns: dns(record),
    })
}

fn dns(record: &Record) -> DnsWish {
    let host = &record.host_config;
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    DnsWish {
        servers: list(&host.dns),
        search: list(&host.dns_search),
        options: list(&host.dns_options),
    }
}

/// The wanted endpoints, with every name that DNS shall answer for.
fn endpoints(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let mut endpoints = record.endpoints.clone();
    for settings in endpoints.values_mut() {
        let mut names = vec![record.name.clone()];
        let more = settings.aliases.iter().flatten().cloned();
        for name in more.chain([record.id.short(), record.config.hostname.clone()]) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        settings.dns_names = Some(names);
    }
    endpoints
}

/// Docker lets containers bind low ports and send pings without capabilities.
fn sysctls(record: &Record) -> BTreeMap<String, String> {
    let mut sysctls: BTreeMap<String, String> = [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let asked = record
        .host_config
        .sysctls
        .iter()
        .filter(|(name, _)| name.starts_with("net."));
    sysctls.extend(asked.map(|(name, value)| (name.clone(), value.clone())));
    sysctls
}

fn ports(record: &Record) -> Vec<PortRequest> {
    let host = &record.host_config;
    let mut ports: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let bindings = bindings.clone().filter(|bindings| !bindings.is_empty());
        ports.insert(
            with_protocol(port),
            bindings.unwrap_or_else(|| vec![PortBinding::default()]),
        );
    }
    if host.publish_all_ports {
        for port in record.config.exposed_ports.keys() {
            ports
                .entry(with_protocol(port))
                .or_insert_with(|| vec![PortBinding::default()]);
        }
    }
    let request = |(container_port, bindings)| PortRequest {
        container_port,
        bindings,
    };
    ports.into_iter().map(request).collect()
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') {
        port.to_owned()
    } else {
        format!("{port}/tcp")
    }
}

/// Writes `hosts` for a container whose sandbox is ready.
///
/// # Errors
/// Those of writing the file.
pub fn write_hosts(
    record: &Record,
    sandbox: Option<&Sandbox>,
    sandboxes: &dyn SandboxStore,
    files: &EtcFiles,
) -> std::io::Result<()> {
    let wanted = record.host_config.extra_hosts.iter().flatten();
    let mut gateway = None;
    let mut extra = Vec::new();
    for entry in wanted {
        if entry.ends_with("host-gateway") && gateway.is_none() {
            gateway = sandboxes.host_gateway();
        }
        extra.extend(files::extra_host(entry, gateway));
    }
    let own = sandbox
        .map(|sandbox| own_addresses(record, sandbox))
        .unwrap_or_default();
    let of_host = (record.network_mode() == NetworkMode::Host)
        .then(|| std::fs::read_to_string("/etc/hosts").ok())
        .flatten();
    let text = match of_host {
        Some(lines) => files::hosts_text_after(lines, &extra, &own),
        None => files::hosts_text(&extra, &own),
    };
    files::write_in_place(&files.hosts(), &text)
}

fn own_addresses(record: &Record, sandbox: &Sandbox) -> Vec<OwnAddress> {
    let name = hostname(record);
    let names = match record.config.domainname.as_str() {
        "" => vec![name],
        domain => vec![format!("{name}.{domain}"), name],
    };
    let addresses = sandbox
        .endpoints
        .values()
        .flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address]);
    addresses
        .filter(|address| !address.is_empty())
        .map(|address| OwnAddress {
            address: address.clone(),
            names: names.clone(),
        })
        .collect()
}

/// Writes `hostname` and `resolv.conf`, which need no sandbox.
///
/// # Errors
/// Those of the network room, and of writing the files.
pub fn write_names(record: &Record, sandboxes: &dyn SandboxStore, files: &EtcFiles) -> Result<()> {
    let dns = dns(record);
    let mode = record.network_mode();
    let text = if mode == NetworkMode::Host && dns == DnsWish::default() {
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        let networks: Vec<String> = match mode {
            NetworkMode::Networks => record.endpoints.keys().cloned().collect(),
            NetworkMode::Host => vec!["host".to_owned()],
            _ => Vec::new(),
        };
        sandboxes.resolv_conf(&networks, &dns)?
    };
    let written = files::write_in_place(&files.resolv_conf(), &text).and_then(|()| {
        files::write_in_place(&files.hostname(), &format!("{}\n", hostname(record)))
    });
    written.map_err(|error| {
        cais_types::Error::internal(format!("cannot write the container's files: {error}"))
    })
}
