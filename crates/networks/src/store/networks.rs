//! Networks that users make, list and remove.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cais_state::Durability;
use cais_types::{ContainerId, NetworkId};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

use crate::bridge::{self, Bridge};
use crate::error::NetworkError;
use crate::ipam::{self, Addresses};
use crate::netlink::{Socket, route};

use super::records::{BridgeRecord, Driver, EndpointRecord, NETWORKS, NetworkRecord};
use super::{Network, State, Store};

/// Names that no user may take or remove.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// A network that a user wants.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Empty or `bridge`.
    pub driver: String,
    /// `None` for the first free one of the pools.
    pub subnet: Option<Ipv4Net>,
    /// `None` for the first address of the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Where endpoint addresses come from.
    pub range: Option<Ipv4Net>,
    /// Whether nothing outside can be reached.
    pub internal: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network with who is on it.
#[derive(Clone, Debug)]
pub struct NetworkState {
    /// What was asked and chosen.
    pub record: NetworkRecord,
    /// The running containers on it, with their names.
    pub containers: BTreeMap<ContainerId, (String, EndpointRecord)>,
}

fn flag(request: &NetworkRequest, option: &str, default: bool) -> Result<bool, NetworkError> {
    match request.options.get(option).map(String::as_str) {
        None => Ok(default),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(text) => Err(NetworkError::Invalid(format!(
            "failed to parse {option} value: {text:?}"
        ))),
    }
}

impl Store {
    /// All networks in the order of their names.
    pub fn list(&self) -> Vec<NetworkState> {
        let state = self.lock();
        let mut list: Vec<_> = state
            .networks
            .values()
            .map(|one| view(&state, one))
            .collect();
        list.sort_by(|left, right| left.record.name.cmp(&right.record.name));
        list
    }

    /// One network by name, id or unique id prefix.
    pub fn inspect(&self, network: &str) -> Result<NetworkState, NetworkError> {
        let state = self.lock();
        state.find(network).map(|found| view(&state, found))
    }

    /// Makes a bridge network: all of it or nothing.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<NetworkId, NetworkError> {
        if PREDEFINED.contains(&request.name.as_str()) {
            let name = &request.name;
            let text = format!("operation is not permitted on predefined {name} network");
            return Err(NetworkError::Forbidden(text));
        }
        if !matches!(request.driver.as_str(), "" | "bridge") {
            let text = format!(
                "network driver {} is not supported by cais yet",
                request.driver
            );
            return Err(NetworkError::Unsupported(text));
        }
        let mut state = self.lock();
        if state
            .networks
            .values()
            .any(|one| one.record.name == request.name)
        {
            return Err(NetworkError::Exists(request.name.clone()));
        }
        let id = NetworkId::from_bytes(bridge::random()?);
        let record = NetworkRecord {
            id,
            name: request.name.clone(),
            driver: Driver::Bridge,
            created: Timestamp::now(),
            internal: request.internal,
            options: request.options.clone(),
            labels: request.labels.clone(),
            bridge: Some(self.bridge_record(&state, &id, request)?),
        };
        self.db
            .put(Durability::Power, NETWORKS, &id.to_string(), &record)?;
        let made = self
            .attach(&mut state, record)
            .and_then(|()| self.replace_rules(&state));
        if let Err(error) = made {
            self.detach(&mut state, &id)?;
            return Err(error);
        }
        Ok(id)
    }

    fn bridge_record(
        &self,
        state: &State,
        id: &NetworkId,
        request: &NetworkRequest,
    ) -> Result<BridgeRecord, NetworkError> {
        let subnet = match request.subnet {
            Some(subnet) => subnet.trunc(),
            None => self.free_subnet(state)?,
        };
        let taken =
            |other: &BridgeRecord| other.subnet.contains(&subnet) || subnet.contains(&other.subnet);
        let bridges = || {
            state
                .networks
                .values()
                .filter_map(|one| one.record.bridge.as_ref())
        };
        if bridges().any(taken) {
            let text = "invalid pool request: Pool overlaps with other one on this address space";
            return Err(NetworkError::Forbidden(text.to_owned()));
        }
        let gateway = request
            .gateway
            .unwrap_or_else(|| ipam::first_address(subnet));
        if !subnet.contains(&gateway) {
            let text = format!("invalid network config: gateway {gateway} is not in {subnet}");
            return Err(NetworkError::Invalid(text));
        }
        let option = |name: &str| request.options.get(name);
        let named = option("com.docker.network.bridge.name").cloned();
        let mtu = option("com.docker.network.driver.mtu").and_then(|text| text.parse().ok());
        Ok(BridgeRecord {
            name: named.unwrap_or_else(|| format!("br-{}", id.short())),
            subnet,
            gateway,
            range: request.range,
            mtu: mtu.unwrap_or(self.config.mtu),
            icc: flag(request, "com.docker.network.bridge.enable_icc", true)?,
            masquerade: flag(
                request,
                "com.docker.network.bridge.enable_ip_masquerade",
                true,
            )?,
        })
    }

    /// A subnet that neither another network nor a route of the host uses.
    pub(super) fn free_subnet(&self, state: &State) -> Result<Ipv4Net, NetworkError> {
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let routes = route::routes(&socket).map_err(NetworkError::during("route list"))?;
        let mut used: Vec<IpNet> = routes.into_iter().map(|route| route.destination).collect();
        used.extend(state.networks.values().filter_map(|network| {
            let bridge = network.record.bridge.as_ref()?;
            Some(IpNet::V4(bridge.subnet))
        }));
        ipam::free_subnet(&self.config.pools, &used).ok_or(NetworkError::NoSubnet)
    }

    /// Brings a network into the kernel and into the list.
    pub(super) fn attach(
        &self,
        state: &mut State,
        record: NetworkRecord,
    ) -> Result<(), NetworkError> {
        let mut network = Network {
            record,
            addresses: None,
            interface: 0,
        };
        if let Some(record) = &network.record.bridge {
            let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
            let address = Ipv4Net::new(record.gateway, record.subnet.prefix_len())
                .map_err(|error| NetworkError::Invalid(error.to_string()))?;
            let wanted = Bridge {
                name: record.name.clone(),
                address: address.into(),
                mtu: record.mtu,
                route_localnet: self.config.firewall && !network.record.internal,
            };
            network.interface = bridge::ensure(&socket, &wanted)?;
            let mut addresses = Addresses::new(record.subnet, record.range);
            addresses.reserve(record.gateway);
            network.addresses = Some(addresses);
        }
        state.networks.insert(network.record.id, network);
        Ok(())
    }

    fn detach(&self, state: &mut State, id: &NetworkId) -> Result<(), NetworkError> {
        self.db
            .delete(Durability::Power, NETWORKS, &id.to_string())?;
        let removed = state.networks.remove(id);
        self.replace_rules(state)?;
        let Some(record) = removed.and_then(|network| network.record.bridge) else {
            return Ok(());
        };
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        bridge::remove(&socket, &record.name)
    }

    /// Removes a network that nobody is on.
    pub fn remove_network(&self, network: &str) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let found = view(&state, state.find(network)?);
        let name = found.record.name;
        if PREDEFINED.contains(&name.as_str()) {
            let text = format!("{name} is a pre-defined network and cannot be removed");
            return Err(NetworkError::Forbidden(text));
        }
        if !found.containers.is_empty() {
            let one = |(container, endpoint): &(String, EndpointRecord)| {
                format!("name:{container:?} id:{:?}", &endpoint.id[..12])
            };
            let endpoints: Vec<_> = found.containers.values().map(one).collect();
            let endpoints = endpoints.join(", ");
            return Err(NetworkError::InUse { name, endpoints });
        }
        self.detach(&mut state, &found.record.id)
    }
}

fn view(state: &State, network: &Network) -> NetworkState {
    let mut containers = BTreeMap::new();
    for (container, held) in &state.sandboxes {
        let mut endpoints = held.record.endpoints.iter();
        if let Some(endpoint) = endpoints.find(|one| one.network == network.record.id) {
            containers.insert(*container, (held.record.name.clone(), endpoint.clone()));
        }
    }
    NetworkState {
        record: network.record.clone(),
        containers,
    }
}
