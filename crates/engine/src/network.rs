//! From a record to the request for a network sandbox, and from a ready sandbox to the files that name its addresses.

use std::collections::BTreeMap;

use cais_sys::process;
use cais_types::api::{EndpointSettings, PortBinding};
use cais_types::{ContainerId, Error, Result};

use crate::files::{self, EtcFiles, OwnAddress};
use crate::house::House;
use crate::links;
use crate::ports::{DnsWish, PortRequest, Sandbox, SandboxRequest, SandboxStore};
use crate::record::{NetworkMode, NetworkState, Record};
use crate::spec::hostname;

/// The name that leads to the host in every container.
const HOST: &str = "host.docker.internal";

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

/// The wanted endpoints, with every name that DNS shall answer for, and the addresses they had before.
fn endpoints(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let endpoints = record.endpoints.iter();
    endpoints
        .map(|(network, settings)| {
            let mut settings = named(record, network, settings.clone());
            if let Some(former) = record.former_addresses.get(network) {
                settings.ip_address.clone_from(&former.0);
                settings.global_ipv6_address.clone_from(&former.1);
            }
            (network.clone(), settings)
        })
        .collect()
}

/// An endpoint with every name that its network shall answer for; the default bridge answers for none.
pub fn named(record: &Record, network: &str, mut settings: EndpointSettings) -> EndpointSettings {
    if matches!(network, "bridge" | "host" | "none") {
        return settings;
    }
    let mut names = vec![record.name.clone()];
    let more = settings.aliases.iter().flatten().cloned();
    for name in more.chain([record.id.short(), record.config.hostname.clone()]) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    settings.dns_names = Some(names);
    settings
}

/// What a started container has: its sandbox, or its place on `host` or `none`, which have no addresses.
pub fn state(
    mode: &NetworkMode,
    sandbox: Option<Sandbox>,
    sandboxes: &dyn SandboxStore,
) -> NetworkState {
    let (mut endpoints, ports) = match sandbox {
        Some(sandbox) => (sandbox.endpoints, sandbox.ports),
        None => Default::default(),
    };
    let name = match mode {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        NetworkMode::Networks | NetworkMode::Container(_) => {
            return NetworkState { endpoints, ports };
        }
    };
    if let (Ok(facts), Ok(id)) = (sandboxes.facts(name), crate::create::random()) {
        let settings = EndpointSettings {
            network_id: facts.id.to_string(),
            endpoint_id: ContainerId::from_bytes(id).to_string(),
            ..EndpointSettings::default()
        };
        endpoints.insert(name.to_owned(), settings);
    }
    NetworkState { endpoints, ports }
}

/// The addresses of a started container by network.
pub fn addresses(state: &NetworkState) -> BTreeMap<String, (String, String)> {
    let endpoints = state.endpoints.iter();
    endpoints
        .filter(|(_, one)| !one.endpoint_id.is_empty())
        .map(|(network, one)| {
            let pair = (one.ip_address.clone(), one.global_ipv6_address.clone());
            (network.clone(), pair)
        })
        .collect()
}

/// Tells that a container has joined or left every network it is on.
pub fn announce(house: &House, action: &str, record: &Record) {
    for (network, endpoint) in &record.network.endpoints {
        let facts = house.ports.sandboxes.facts(network);
        // Removed under it, or another one of the same name.
        if let Some(facts) = facts
            .ok()
            .filter(|facts| facts.id.to_string() == endpoint.network_id)
        {
            house.events.network(action, &facts, &record.id);
        }
    }
}

/// Docker lets containers bind low ports and send pings without capabilities. A user namespace has not all the groups that
/// pings would be allowed to.
fn sysctls(record: &Record) -> BTreeMap<String, String> {
    let pings =
        (!process::in_user_namespace()).then_some(("net.ipv4.ping_group_range", "0 2147483647"));
    let mut sysctls: BTreeMap<String, String> = [("net.ipv4.ip_unprivileged_port_start", "0")]
        .into_iter()
        .chain(pings)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let asked = record
        .host_config
        .sysctls
        .iter()
        .filter(|(name, _)| name.starts_with("net."));
    sysctls.extend(asked.map(|(name, value)| (name.clone(), value.clone())));
    sysctls
}

/// What a container wants to publish.
pub fn ports(record: &Record) -> Vec<PortRequest> {
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
/// No address for `host-gateway`, and those of writing the file.
pub fn write_hosts(
    record: &Record,
    sandbox: Option<&Sandbox>,
    sandboxes: &dyn SandboxStore,
    files: &EtcFiles,
) -> Result<()> {
    let extra = extra_hosts(record, sandboxes)?;
    let mut own = links::lines(record);
    let addresses = sandbox
        .map(|sandbox| own_entries(record, sandbox.endpoints.values()))
        .unwrap_or_default();
    own.extend(addresses);
    let of_host = (record.network_mode() == NetworkMode::Host)
        .then(|| std::fs::read_to_string("/etc/hosts").ok())
        .flatten();
    let text = match of_host {
        Some(lines) => files::hosts_text_after(lines, &extra, &own),
        None => files::hosts_text(&extra, &own),
    };
    files::write_in_place(&files.hosts(), &text)
        .map_err(|error| Error::internal(format!("cannot write hosts: {error}")))
}

/// The names of `--add-host`, and the host's own where no resolver answers for it.
fn extra_hosts(record: &Record, sandboxes: &dyn SandboxStore) -> Result<Vec<(String, String)>> {
    let wanted = record.host_config.extra_hosts.iter().flatten();
    let of_host = record.endpoints.keys().eq(["bridge"]);
    let names_gateway = wanted.clone().any(|entry| entry.ends_with("host-gateway"));
    let gateway = (of_host || names_gateway)
        .then(|| sandboxes.host_gateway())
        .flatten();
    if names_gateway && gateway.is_none() {
        let text = "unable to derive the IP value for host-gateway";
        return Err(Error::internal(text));
    }
    let wanted = wanted.filter_map(|entry| files::extra_host(entry, gateway));
    let mut extra: Vec<_> = wanted.collect();
    if of_host && !extra.iter().any(|(name, _)| name == HOST) {
        extra.extend(gateway.map(|gateway| (HOST.to_owned(), gateway.to_string())));
    }
    Ok(extra)
}

/// The lines of `/etc/hosts` for these endpoints of a container.
pub fn own_entries<'a>(
    record: &Record,
    endpoints: impl IntoIterator<Item = &'a EndpointSettings>,
) -> Vec<OwnAddress> {
    let name = hostname(record);
    let names = match record.config.domainname.as_str() {
        "" => vec![name],
        domain => vec![format!("{name}.{domain}"), name],
    };
    let addresses = endpoints
        .into_iter()
        .flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address]);
    addresses
        .filter(|address| !address.is_empty())
        .map(|address| OwnAddress {
            address: address.clone(),
            names: names.clone(),
        })
        .collect()
}

fn resolv_conf(record: &Record, sandboxes: &dyn SandboxStore) -> Result<String> {
    let dns = dns(record);
    let mode = record.network_mode();
    if mode == NetworkMode::Host && dns == DnsWish::default() {
        return Ok(std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    }
    let networks: Vec<String> = match mode {
        NetworkMode::Networks => record.endpoints.keys().cloned().collect(),
        NetworkMode::Host => vec!["host".to_owned()],
        _ => Vec::new(),
    };
    sandboxes.resolv_conf(&networks, &dns)
}

/// Lets `resolv.conf` follow a change of the networks of a running container, unless the container has made it its own.
///
/// # Errors
/// Those of the network room, and of reading and writing the file.
pub fn follow_networks(
    (before, after): (&Record, &Record),
    sandboxes: &dyn SandboxStore,
    files: &EtcFiles,
) -> Result<()> {
    let (old, new) = (
        resolv_conf(before, sandboxes)?,
        resolv_conf(after, sandboxes)?,
    );
    let path = files.resolv_conf();
    let written = std::fs::read_to_string(&path).and_then(|text| {
        if old != new && text == old {
            files::write_in_place(&path, &new)?;
        }
        Ok(())
    });
    written.map_err(|error| Error::internal(format!("cannot write resolv.conf: {error}")))
}

/// Writes `hostname` and `resolv.conf`, which need no sandbox.
///
/// # Errors
/// Those of the network room, and of writing the files.
pub fn write_names(record: &Record, sandboxes: &dyn SandboxStore, files: &EtcFiles) -> Result<()> {
    let text = resolv_conf(record, sandboxes)?;
    let written = files::write_in_place(&files.resolv_conf(), &text).and_then(|()| {
        files::write_in_place(&files.hostname(), &format!("{}\n", hostname(record)))
    });
    written.map_err(|error| Error::internal(format!("cannot write the container's files: {error}")))
}
