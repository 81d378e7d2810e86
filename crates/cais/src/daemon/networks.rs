//! The network store behind the engine's ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use cais_engine::ports::{
    DnsWish, KeptSandbox, LiveSandbox, NamespaceMade, NetworkFacts, PortRequest, Sandbox,
    SandboxRequest, SandboxStore,
};
use cais_networks::{
    Endpoint, EndpointRequest, Facts, Link, Live, NetworkRecord, NetworkRequest, PoolRequest, Store,
};
use cais_services::networks::NetworkCatalog;
use cais_types::api::{
    ConfigReference, EndpointSettings, Ipam, IpamConfig, Network, NetworkCreateRequest, PortBinding,
};
use cais_types::{ContainerId, Error, Result};
use ipnet::IpNet;

/// Adapts [`Store`].
pub struct Networks(pub Arc<Store>);

impl Networks {
    /// Whether the network is there; others than the default bridge are as long as they are named.
    fn has(&self, network: &str) -> bool {
        network != "bridge" || self.0.find(network).is_ok()
    }
}

impl SandboxStore for Networks {
    fn facts(&self, network: &str) -> Result<NetworkFacts> {
        Ok(on_facts(self.0.facts(network)?))
    }

    fn check(&self, network: &str, settings: &EndpointSettings) -> Result<NetworkFacts> {
        let facts = self.0.check_endpoint(network, settings)?;
        endpoint_request(settings)?;
        Ok(on_facts(facts))
    }

    fn connect(
        &self,
        live: &LiveSandbox<'_>,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings> {
        let wanted = endpoint_request(settings)?;
        let endpoint = self.0.connect(&in_live(live), network, &wanted)?;
        Ok(filled(settings.clone(), &endpoint))
    }

    fn disconnect(&self, live: &LiveSandbox<'_>, network: &str) -> Result<()> {
        Ok(self.0.disconnect(&in_live(live), network)?)
    }

    fn compare(
        &self,
        live: &LiveSandbox<'_>,
        known: &BTreeMap<String, EndpointSettings>,
    ) -> Result<KeptSandbox> {
        let ids: Vec<String> = known.values().map(|one| one.endpoint_id.clone()).collect();
        let kept = self.0.compare(&in_live(live), &ids)?;
        let settings = |endpoint: &Endpoint| {
            let settings = known.get(&endpoint.network).cloned().unwrap_or_default();
            (endpoint.network.clone(), filled(settings, endpoint))
        };
        Ok(KeptSandbox {
            endpoints: kept.endpoints.iter().map(settings).collect(),
            gone: kept.gone.iter().map(settings).collect(),
            ports: on_ports(kept.ports),
        })
    }

    fn open(&self, request: &SandboxRequest, made: NamespaceMade) -> Result<Sandbox> {
        let there = request.endpoints.iter();
        let there = there.filter(|(name, _)| self.has(name));
        let wanted = there.map(|(name, asked)| Ok((name.clone(), endpoint_request(asked)?)));
        let request_in_store = cais_networks::SandboxRequest {
            container: request.container,
            name: request.name.clone(),
            endpoints: wanted.collect::<Result<_>>()?,
            ports: ports_in_store(&request.ports),
            sysctls: request.sysctls.clone(),
            dns: dns_wish(&request.dns),
        };
        let sandbox = self.0.open_telling(&request_in_store, made)?;
        let mut endpoints = BTreeMap::new();
        for (asked, endpoint) in &sandbox.endpoints {
            let (_, name) = self.0.find(asked)?;
            let settings = request.endpoints.get(asked).cloned().unwrap_or_default();
            endpoints.insert(name, filled(settings, endpoint));
        }
        Ok(Sandbox {
            endpoints,
            ports: on_ports(sandbox.ports),
            sysfs: sandbox.sysfs,
        })
    }

    fn close(&self, container: &ContainerId) -> Result<()> {
        Ok(self.0.close(container)?)
    }

    fn retain(&self, running: &[ContainerId]) -> Result<()> {
        Ok(self.0.retain(running)?)
    }

    fn republish(
        &self,
        container: &ContainerId,
        wanted: &[PortRequest],
        remove: &[PortRequest],
    ) -> Result<BTreeMap<String, Vec<PortBinding>>> {
        let (wanted, remove) = (ports_in_store(wanted), ports_in_store(remove));
        let ports = self.0.republish(container, &wanted, &remove)?;
        Ok(on_ports(ports))
    }

    fn adopt(&self, container: &ContainerId, name: &str, netns: BorrowedFd<'_>) -> Result<()> {
        let live = Live {
            container,
            name,
            netns,
        };
        Ok(self.0.adopt(&live)?)
    }

    fn resolv_conf(&self, networks: &[String], dns: &DnsWish) -> Result<String> {
        let there = networks.iter().filter(|name| self.has(name));
        let there: Vec<String> = there.cloned().collect();
        Ok(self.0.resolv_conf(&there, &dns_wish(dns))?)
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        self.0.host_gateway()
    }
}

fn dns_wish(dns: &DnsWish) -> cais_networks::DnsWish {
    cais_networks::DnsWish {
        servers: dns.servers.clone(),
        search: dns.search.clone(),
        options: dns.options.clone(),
    }
}

fn on_facts(facts: Facts) -> NetworkFacts {
    NetworkFacts {
        id: facts.id,
        name: facts.name,
        driver: facts.driver.name().to_owned(),
    }
}

fn in_live<'a>(live: &LiveSandbox<'a>) -> Live<'a> {
    Live {
        container: live.container,
        name: live.name,
        netns: live.netns,
    }
}

fn on_ports(
    ports: BTreeMap<String, Vec<cais_networks::PortBinding>>,
) -> BTreeMap<String, Vec<PortBinding>> {
    let ports = ports.into_iter();
    ports
        .map(|(port, bindings)| (port, bindings.iter().map(on_wire).collect()))
        .collect()
}

fn endpoint_request(asked: &EndpointSettings) -> Result<EndpointRequest> {
    let ipam = asked.ipam_config.clone().unwrap_or_default();
    let links = asked.links.iter().flatten().map(|link| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        Link {
            target: target.trim_start_matches('/').to_owned(),
            alias: alias.rsplit('/').next().unwrap_or(alias).to_owned(),
        }
    });
    let link_local = ipam.link_local_ips.iter();
    Ok(EndpointRequest {
        address: parse_address("IPv4", &ipam.ipv4_address)?,
        address_v6: parse_address("IPv6", &ipam.ipv6_address)?,
        link_local: link_local
            .map(|text| parse_address("link-local IP", text))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?,
        mac: Some(asked.mac_address.as_str())
            .filter(|text| !text.is_empty())
            .map(parse_mac)
            .transpose()?,
        aliases: asked.aliases.clone().unwrap_or_default(),
        dns_names: asked.dns_names.clone().unwrap_or_default(),
        links: links.collect(),
        gw_priority: asked.gw_priority,
        driver_options: asked.driver_opts.clone().unwrap_or_default(),
        former: [&asked.ip_address, &asked.global_ipv6_address]
            .into_iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
    })
}

fn parse_address(what: &str, text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: Option<IpAddr> = text.parse().ok();
    let fits = address.filter(|address| match what {
        "IPv4" => address.is_ipv4(),
        "IPv6" => address.is_ipv6(),
        _ => true,
    });
    fits.map(Some)
        .ok_or_else(|| Error::invalid(format!("invalid {what} address: {text}")))
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::invalid(format!("invalid MAC address {text}")))
}

fn filled(asked: EndpointSettings, endpoint: &Endpoint) -> EndpointSettings {
    let gateway = |address: Option<IpAddr>| address.map(|one| one.to_string()).unwrap_or_default();
    let text = |net: Option<IpNet>| net.map(|net| net.addr().to_string()).unwrap_or_default();
    let bits = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len().into());
    EndpointSettings {
        mac_address: endpoint.mac.clone(),
        network_id: endpoint.network_id.to_string(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: gateway(endpoint.gateway),
        ip_address: text(endpoint.address),
        ip_prefix_len: bits(endpoint.address),
        ipv6_gateway: gateway(endpoint.gateway_v6),
        global_ipv6_address: text(endpoint.address_v6),
        global_ipv6_prefix_len: bits(endpoint.address_v6),
        ..asked
    }
}

fn ports_in_store(ports: &[PortRequest]) -> Vec<cais_networks::PortRequest> {
    let request = |port: &PortRequest| cais_networks::PortRequest {
        container_port: port.container_port.clone(),
        bindings: port.bindings.iter().map(in_store).collect(),
    };
    ports.iter().map(request).collect()
}

fn in_store(binding: &PortBinding) -> cais_networks::PortBinding {
    cais_networks::PortBinding {
        host_ip: binding.host_ip.clone(),
        host_port: binding.host_port.clone(),
    }
}

fn on_wire(binding: &cais_networks::PortBinding) -> PortBinding {
    PortBinding {
        host_ip: binding.host_ip.clone(),
        host_port: binding.host_port.clone(),
    }
}

impl NetworkCatalog for Networks {
    fn all(&self) -> Result<Vec<Network>> {
        Ok(self
            .0
            .list()
            .into_iter()
            .map(|state| network(state.record))
            .collect())
    }

    fn find(&self, name: &str) -> Result<Network> {
        Ok(network(self.0.inspect(name)?.record))
    }

    fn create(&self, request: &NetworkCreateRequest) -> Result<Network> {
        let id = self.0.create_network(&network_request(request))?;
        NetworkCatalog::find(self, &id.to_string())
    }

    fn remove(&self, id: &str) -> Result<()> {
        Ok(self.0.remove_network(id)?)
    }
}

fn network_request(request: &NetworkCreateRequest) -> NetworkRequest {
    let ipam = request.ipam.clone().unwrap_or_default();
    let pools = ipam.config.unwrap_or_default().into_iter();
    let from = request.config_from.clone().unwrap_or_default().network;
    NetworkRequest {
        name: request.name.clone(),
        driver: request.driver.clone(),
        scope: request.scope.clone(),
        pools: pools
            .map(|pool| PoolRequest {
                subnet: pool.subnet,
                gateway: pool.gateway,
                range: pool.ip_range,
                auxiliary: pool.auxiliary_addresses,
            })
            .collect(),
        ipam_driver: ipam.driver,
        ipam_options: ipam.options,
        ipv4: request.enable_ipv4,
        ipv6: request.enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        config_only: request.config_only,
        config_from: Some(from).filter(|name| !name.is_empty()),
        options: request.options.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
    }
}

fn network(record: NetworkRecord) -> Network {
    let pools = record.pools.iter().map(|pool| IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool
            .range
            .map(|range| range.to_string())
            .unwrap_or_default(),
        gateway: pool.gateway.map(|one| one.to_string()).unwrap_or_default(),
        auxiliary_addresses: pool
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    });
    Network {
        id: record.id.to_string(),
        created: record.created.to_string(),
        scope: "local".to_owned(),
        driver: record.driver.name().to_owned(),
        enable_ipv4: record.ipv4,
        enable_ipv6: record.ipv6,
        ipam: Ipam {
            config: (!matches!(record.name.as_str(), "host" | "none")).then(|| pools.collect()),
            options: record.ipam_options,
            driver: record.ipam_driver,
        },
        name: record.name,
        internal: record.internal,
        attachable: record.attachable,
        config_only: record.config_only,
        config_from: ConfigReference {
            network: record.config_from.unwrap_or_default(),
        },
        options: record.options,
        labels: record.labels,
        ..Network::default()
    }
}
