//! The network store behind the engine's ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cais_engine::ports::{Sandbox, SandboxRequest, SandboxStore};
use cais_engine::services::networks::NetworkCatalog;
use cais_networks::{Endpoint, EndpointRequest, NetworkRecord, NetworkRequest, Store};
use cais_types::api::{
    EndpointSettings, Ipam, IpamConfig, Network, NetworkCreateRequest, PortBinding,
};
use cais_types::{ContainerId, Error, NetworkId, Result};

/// Adapts [`Store`].
pub struct Networks(pub Arc<Store>);

impl SandboxStore for Networks {
    fn find(&self, network: &str) -> Result<(NetworkId, String)> {
        Ok(self.0.find(network)?)
    }

    fn open(&self, request: &SandboxRequest) -> Result<Sandbox> {
        let wanted = request
            .endpoints
            .iter()
            .map(|(name, asked)| Ok((name.clone(), endpoint_request(asked)?)));
        let ports = request.ports.iter().map(|port| cais_networks::PortRequest {
            container_port: port.container_port.clone(),
            bindings: port.bindings.iter().map(in_store).collect(),
        });
        let sandbox = self.0.open(&cais_networks::SandboxRequest {
            container: request.container,
            name: request.name.clone(),
            endpoints: wanted.collect::<Result<_>>()?,
            ports: ports.collect(),
            sysctls: request.sysctls.clone(),
        })?;
        let mut endpoints = BTreeMap::new();
        for (asked, endpoint) in &sandbox.endpoints {
            let (_, name) = self.0.find(asked)?;
            let settings = request.endpoints.get(asked).cloned().unwrap_or_default();
            endpoints.insert(name, filled(settings, endpoint));
        }
        let ports = sandbox
            .ports
            .into_iter()
            .map(|(port, bindings)| (port, bindings.iter().map(on_wire).collect()));
        Ok(Sandbox {
            netns: sandbox.netns,
            endpoints,
            ports: ports.collect(),
        })
    }

    fn close(&self, container: &ContainerId) -> Result<()> {
        Ok(self.0.close(container)?)
    }

    fn retain(&self, running: &[ContainerId]) -> Result<()> {
        Ok(self.0.retain(running)?)
    }

    fn resolv_conf(
        &self,
        networks: &[String],
        dns: &[String],
        search: &[String],
        options: &[String],
    ) -> Result<String> {
        Ok(self.0.resolv_conf(networks, dns, search, options)?)
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        self.0.host_gateway()
    }
}

fn endpoint_request(asked: &EndpointSettings) -> Result<EndpointRequest> {
    let wanted = asked
        .ipam_config
        .as_ref()
        .map(|config| config.ipv4_address.as_str())
        .filter(|text| !text.is_empty());
    let address = wanted
        .map(|text| {
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid IPv4 address: {text}")))
        })
        .transpose()?;
    let mac = Some(asked.mac_address.as_str())
        .filter(|text| !text.is_empty())
        .map(parse_mac)
        .transpose()?;
    Ok(EndpointRequest { address, mac })
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::invalid(format!("invalid MAC address: {text}")))
}

fn filled(asked: EndpointSettings, endpoint: &Endpoint) -> EndpointSettings {
    EndpointSettings {
        mac_address: endpoint.mac.clone(),
        network_id: endpoint.network_id.to_string(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: endpoint
            .gateway
            .map(|address| address.to_string())
            .unwrap_or_default(),
        ip_address: endpoint.address.to_string(),
        ip_prefix_len: endpoint.prefix_len.into(),
        ..asked
    }
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
        let id = self.0.create_network(&network_request(request)?)?;
        NetworkCatalog::find(self, &id.to_string())
    }

    fn remove(&self, id: &str) -> Result<()> {
        Ok(self.0.remove_network(id)?)
    }
}

/// What is not built yet is refused here, so that no option is taken and then ignored.
fn network_request(request: &NetworkCreateRequest) -> Result<NetworkRequest> {
    let unsupported =
        |what: &str| Error::unsupported(format!("{what} is not built yet for networks"));
    for (asked, what) in [
        (request.enable_ipv6 == Some(true), "IPv6"),
        (request.enable_ipv4 == Some(false), "switching IPv4 off"),
        (request.ingress, "ingress"),
        (
            request.config_only
                || request
                    .config_from
                    .as_ref()
                    .is_some_and(|from| !from.network.is_empty()),
            "config-only",
        ),
        (
            !matches!(request.scope.as_str(), "" | "local"),
            "a scope other than local",
        ),
    ] {
        if asked {
            return Err(unsupported(what));
        }
    }
    let ipam = request.ipam.clone().unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(unsupported("an IPAM driver other than default"));
    }
    let ranges = ipam.config.unwrap_or_default();
    if ranges.len() > 1 {
        return Err(unsupported("more than one subnet"));
    }
    let range = ranges.into_iter().next().unwrap_or_default();
    if !range.auxiliary_addresses.is_empty() {
        return Err(unsupported("--aux-address"));
    }
    Ok(NetworkRequest {
        name: request.name.clone(),
        driver: request.driver.clone(),
        subnet: address("subnet", &range.subnet)?,
        gateway: address("gateway", &range.gateway)?,
        range: address("IP range", &range.ip_range)?,
        internal: request.internal,
        options: request.options.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
    })
}

fn address<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid {what}: {text}"))),
    }
}

fn network(record: NetworkRecord) -> Network {
    let config = record.bridge.as_ref().map(|bridge| {
        vec![IpamConfig {
            subnet: bridge.subnet.to_string(),
            ip_range: bridge
                .range
                .map(|range| range.to_string())
                .unwrap_or_default(),
            gateway: bridge.gateway.to_string(),
            ..IpamConfig::default()
        }]
    });
    Network {
        name: record.name,
        id: record.id.to_string(),
        created: record.created.to_string(),
        scope: "local".to_owned(),
        driver: record.driver.name().to_owned(),
        enable_ipv4: true,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: Some(config.unwrap_or_default()),
        },
        internal: record.internal,
        options: record.options,
        labels: record.labels,
        ..Network::default()
    }
}
