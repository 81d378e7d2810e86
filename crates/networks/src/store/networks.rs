//! Networks that users make, list and remove.

use std::collections::BTreeMap;

use cais_state::Durability;
use cais_sys::failpoint;
use cais_types::{ContainerId, NetworkId};
use jiff::Timestamp;

use crate::bridge;
use crate::drivers::{self, NetworkDriver, Options, Surroundings};
use crate::error::NetworkError;
use crate::ipam::Addresses;

use super::pools::{self, PoolRequest};
use super::records::{Driver, EndpointRecord, NETWORKS, NetworkRecord};
use super::{Network, State, Store};

/// Names that no user may take or remove.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// What Docker answers to who wants a part of a swarm.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";

/// A network that a user wants.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Empty for `bridge`.
    pub driver: String,
    /// Empty or `local`.
    pub scope: String,
    /// Its subnets; without one for a family, the first free one of the daemon's ranges.
    pub pools: Vec<PoolRequest>,
    /// Empty for `default`.
    pub ipam_driver: String,
    /// Kept for clients.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Whether it has IPv4; yes unless said otherwise.
    pub ipv4: Option<bool>,
    /// Whether it has IPv6; no unless said otherwise.
    pub ipv6: Option<bool>,
    /// Whether nothing outside can be reached.
    pub internal: bool,
    /// Kept for clients.
    pub attachable: bool,
    /// The routing mesh of a swarm.
    pub ingress: bool,
    /// Only a configuration for other networks.
    pub config_only: bool,
    /// The network whose configuration is taken.
    pub config_from: Option<String>,
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

    /// Makes a network: all of it or nothing.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<NetworkId, NetworkError> {
        let kind = check(request)?;
        let mut state = self.lock();
        let mut networks = state.networks.values();
        if networks.any(|one| one.record.name == request.name) {
            return Err(NetworkError::Exists(request.name.clone()));
        }
        let record = self.plan(&state, request, kind)?;
        let id = record.id;
        self.db
            .put(Durability::Power, NETWORKS, &id.to_string(), &record)?;
        failpoint::reach("network-recorded");
        let made = self
            .attach(&mut state, record.clone())
            .map(|()| failpoint::reach("network-raised"))
            .and_then(|()| self.replace_rules(&state));
        if let Err(error) = made {
            self.detach(&mut state, &record)?;
            return Err(error);
        }
        failpoint::reach("network-ready");
        Ok(id)
    }

    /// The record of a new network; nothing is made yet.
    fn plan(
        &self,
        state: &State,
        request: &NetworkRequest,
        kind: Driver,
    ) -> Result<NetworkRecord, NetworkError> {
        let inherited;
        let (source, kind) = match &request.config_from {
            None => (request, kind),
            Some(name) => {
                inherited = inherit(state, request, name)?;
                (&inherited, kind)
            }
        };
        let mut record = NetworkRecord {
            id: NetworkId::from_bytes(bridge::random()?),
            name: request.name.clone(),
            driver: if request.config_only {
                Driver::Null
            } else {
                kind
            },
            created: Timestamp::now(),
            ipv4: true,
            ipv6: false,
            internal: source.internal,
            attachable: source.attachable,
            config_only: request.config_only,
            config_from: request.config_from.clone(),
            ipam_driver: source.ipam_driver.clone(),
            ipam_options: source.ipam_options.clone(),
            pools: Vec::new(),
            options: self.options(kind, source),
            labels: source.labels.clone(),
            mtu: self.config.mtu,
            interface_prefix: "eth".to_owned(),
            bridge: None,
            parent: None,
        };
        if record.ipam_driver.is_empty() {
            "default".clone_into(&mut record.ipam_driver);
        }
        families(&mut record, source)?;
        if record.config_only {
            record.pools = pools::read(&source.pools, record.ipv4, record.ipv6)?;
            return Ok(record);
        }
        let prefix = Options(&record.options).text("com.docker.network.container_iface_prefix");
        if let Some(prefix) = prefix {
            record.interface_prefix = prefix.to_owned();
        }
        if let Some(driver) = drivers::of(kind) {
            self.plan_driver(state, &mut record, source, driver)?;
        }
        Ok(record)
    }

    fn plan_driver(
        &self,
        state: &State,
        record: &mut NetworkRecord,
        request: &NetworkRequest,
        driver: &dyn NetworkDriver,
    ) -> Result<(), NetworkError> {
        if record.ipam_driver != "null" {
            record.pools = self.pools(state, record, &request.pools, driver)?;
        }
        let others: Vec<&NetworkRecord> = state.networks.values().map(|one| &one.record).collect();
        let around = Surroundings { others: &others };
        driver.plan(record, &around)
    }

    /// The options of a request, with the daemon's defaults for its driver.
    fn options(&self, kind: Driver, request: &NetworkRequest) -> BTreeMap<String, String> {
        let defaults = self.config.default_network_options.get(kind.name());
        let mut options = defaults.cloned().unwrap_or_default();
        options.extend(request.options.clone());
        options
    }

    /// Brings a network into the kernel and into the list.
    pub(super) fn attach(
        &self,
        state: &mut State,
        record: NetworkRecord,
    ) -> Result<(), NetworkError> {
        let mut network = Network {
            addresses: record.pools.iter().map(pools::addresses).collect(),
            record,
            interface: 0,
        };
        let record = &network.record;
        if !record.config_only
            && let Some(driver) = drivers::of(record.driver)
        {
            if record.ipv6 {
                self.forward_ipv6()?;
            }
            network.interface = driver.raise(record, &self.config)?;
        }
        state.networks.insert(network.record.id, network);
        Ok(())
    }

    /// Takes a network out of the list and the kernel, and only then out of the database: a daemon that dies in between
    /// finds it again and leaves nothing in the kernel that no record names.
    pub(super) fn detach(
        &self,
        state: &mut State,
        record: &NetworkRecord,
    ) -> Result<(), NetworkError> {
        state.networks.remove(&record.id);
        self.replace_rules(state)?;
        failpoint::reach("network-unruled");
        if !record.config_only
            && let Some(driver) = drivers::of(record.driver)
        {
            driver.lower(record)?;
        }
        failpoint::reach("network-lowered");
        let key = record.id.to_string();
        self.db.delete(Durability::Power, NETWORKS, &key)?;
        failpoint::reach("network-forgotten");
        Ok(())
    }

    /// Removes a network that nobody is on.
    pub fn remove_network(&self, network: &str) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let found = view(&state, state.find(network)?);
        let record = found.record;
        if PREDEFINED.contains(&record.name.as_str()) {
            let text = format!(
                "{} is a pre-defined network and cannot be removed",
                record.name
            );
            return Err(NetworkError::Forbidden(text));
        }
        if !found.containers.is_empty() {
            let one = |(container, endpoint): &(String, EndpointRecord)| {
                format!("name:{container:?} id:{:?}", &endpoint.id[..12])
            };
            let endpoints: Vec<_> = found.containers.values().map(one).collect();
            return Err(NetworkError::InUse {
                name: record.name,
                id: record.id.to_string(),
                endpoints: endpoints.join(", "),
            });
        }
        let mut networks = state.networks.values();
        if record.config_only
            && networks.any(|one| one.record.config_from.as_ref() == Some(&record.name))
        {
            let text = format!(
                "error while removing network: configuration network {:?} is in use",
                record.name
            );
            return Err(NetworkError::Forbidden(text));
        }
        self.detach(&mut state, &record)
    }
}

/// What can be refused without looking at other networks; answers the driver.
fn check(request: &NetworkRequest) -> Result<Driver, NetworkError> {
    let forbidden = |text: &str| Err(NetworkError::Forbidden(text.to_owned()));
    let name = &request.name;
    if name.trim().is_empty() {
        let text = "invalid name: name is empty".to_owned();
        return Err(NetworkError::Invalid(text));
    }
    if PREDEFINED.contains(&name.as_str()) {
        return forbidden(&format!(
            "operation is not permitted on predefined {name} network "
        ));
    }
    if request.config_only
        && (request.ingress || request.internal || request.attachable || !request.scope.is_empty())
    {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
             internal | attachable | scope ] are not supported.",
        );
    }
    if request.ingress {
        return forbidden("Ingress network can only be global scope network");
    }
    if matches!(request.scope.as_str(), "swarm" | "global") {
        return forbidden("cannot create a swarm scoped network when swarm is not active");
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        let text = format!("invalid network scope: {}", request.scope);
        return Err(NetworkError::Invalid(text));
    }
    if !matches!(request.ipam_driver.as_str(), "" | "default" | "null") {
        let text = format!("plugin \"{}\" not found", request.ipam_driver);
        return Err(NetworkError::Missing(text));
    }
    match request.driver.as_str() {
        "" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" => forbidden("only one instance of \"host\" network is allowed"),
        "null" => forbidden("only one instance of \"null\" network is allowed"),
        "overlay" => forbidden(NO_SWARM),
        other => Err(NetworkError::Missing(format!("plugin {other:?} not found"))),
    }
}

/// The request as the configuration network says it.
fn inherit(
    state: &State,
    request: &NetworkRequest,
    from: &str,
) -> Result<NetworkRequest, NetworkError> {
    let forbidden = |text: String| Err(NetworkError::Forbidden(text));
    let own = request
        .pools
        .iter()
        .any(|pool| *pool != PoolRequest::default())
        || !request.options.is_empty()
        || !request.labels.is_empty()
        || request.ipv6 == Some(true);
    if request.config_only {
        return forbidden("configuration network cannot depend on a configuration network".into());
    }
    if own {
        return forbidden(
            "user specified configurations are not supported if the network depends on a configuration network".into(),
        );
    }
    let Ok(source) = state.find(from) else {
        let text = format!("configuration network {from:?} does not exist");
        return Err(NetworkError::Missing(text));
    };
    let source = &source.record;
    if !source.config_only {
        return forbidden(format!("{from:?} is not a configuration network"));
    }
    let text =
        |address: Option<std::net::IpAddr>| address.map(|one| one.to_string()).unwrap_or_default();
    let pools = source.pools.iter().map(|pool| PoolRequest {
        subnet: pool.subnet.to_string(),
        gateway: text(pool.gateway),
        range: pool
            .range
            .map(|range| range.to_string())
            .unwrap_or_default(),
        auxiliary: pool
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    });
    Ok(NetworkRequest {
        pools: pools.collect(),
        ipam_driver: source.ipam_driver.clone(),
        ipam_options: source.ipam_options.clone(),
        ipv4: Some(source.ipv4),
        ipv6: Some(source.ipv6),
        options: source.options.clone(),
        labels: source.labels.clone(),
        ..request.clone()
    })
}

/// Which address families the network has: as asked, else as an option says, else IPv4 only.
fn families(record: &mut NetworkRecord, request: &NetworkRequest) -> Result<(), NetworkError> {
    let options = Options(&record.options);
    record.ipv4 = match request.ipv4 {
        Some(asked) => asked,
        None => options.flag("com.docker.network.enable_ipv4", true)?,
    };
    record.ipv6 = match request.ipv6 {
        Some(asked) => asked,
        None => options.flag("com.docker.network.enable_ipv6", false)?,
    };
    if !record.ipv4 && !record.ipv6 {
        let text = "IPv4 or IPv6 must be enabled".to_owned();
        return Err(NetworkError::Invalid(text));
    }
    Ok(())
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

impl Network {
    /// The free addresses that an address belongs to.
    pub(super) fn addresses_of(&mut self, address: std::net::IpAddr) -> Option<&mut Addresses> {
        let mut all = self.addresses.iter_mut();
        all.find(|one| one.subnet().contains(&address))
    }
}
