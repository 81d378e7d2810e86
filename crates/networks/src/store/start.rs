//! What happens when a daemon starts: the default networks, the table, and what a former daemon left.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use cais_state::{Db, Durability};
use cais_types::{ContainerId, NetworkId};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::config::{Config, PublishFirewall};
use crate::dns::Dns;
use crate::drivers;
use crate::error::NetworkError;
use crate::firewall::Policy;
use crate::ipam::Addresses;
use crate::netlink::{Messages, Socket, link};
use crate::nft::{self, Family};
use crate::{admission, bridge};
use crate::{ports, sysctl, wire};

use super::bridged::Bridged;
use super::guard::Guard;
use super::records::{
    BridgeRecord, Driver, ENDPOINTS, GatewayMode, NETWORKS, NetworkRecord, Pool, SandboxRecord,
    veth_prefix,
};
use super::{Held, State, Store, pools};

/// The name that stands for no default bridge at all.
const NO_BRIDGE: &str = "none";

impl Store {
    /// Opens the networks that the database knows, makes the default ones, and brings bridges and rules into the kernel.
    /// Published ports of containers that outlived the last daemon stay reachable all the while.
    pub fn open_store(config: Config, db: Arc<Db>) -> Result<Self, NetworkError> {
        let dns = Dns::new(&config.resolv_conf).map_err(NetworkError::during("resolver"))?;
        let policy = policy(&config)?;
        let store = Self {
            config,
            dns,
            policy,
            guard: Mutex::default(),
            db,
            shared: Arc::default(),
            first_index: wire::first_free_index()?,
            veth_number: AtomicU32::new(u32::from_ne_bytes(bridge::random()?)),
        };
        let mut state = State {
            bridged: Bridged::now(),
            ..State::default()
        };
        store.load_networks(&mut state)?;
        store.load_sandboxes(&mut state)?;
        state.set_port_modes()?;
        if store.config.ip_forward && sysctl::get("ipv4/ip_forward").is_ok_and(|on| on == "0") {
            sysctl::set("ipv4/ip_forward", "1").map_err(NetworkError::during("ip_forward"))?;
        }
        store.replace_rules(&state)?;
        store.warn_of_foreign_drops();
        for (container, held) in &state.sandboxes {
            store.introduce(&state, container, &held.record);
        }
        *store.lock() = state;
        store.name_host();
        if store.config.firewall {
            let shared = Arc::clone(&store.shared);
            let (table, policy) = (store.config.table.clone(), store.policy.clone());
            store.set_guard(Some(Guard::start(shared, table, policy)?));
        }
        Ok(store)
    }

    fn set_guard(&self, guard: Option<Guard>) {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = guard;
    }

    fn load_networks(&self, state: &mut State) -> Result<(), NetworkError> {
        let mut records: Vec<NetworkRecord> = Vec::new();
        for (_, record) in self.db.all::<NetworkRecord>(NETWORKS)? {
            records.push(record);
        }
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if !records.iter().any(|record| record.name == name) {
                records.push(self.predefined(name, driver)?);
            }
        }
        let old = records.iter().position(|record| record.name == "bridge");
        let old = old.map(|index| records.swap_remove(index));
        for record in records {
            self.attach(state, record)?;
        }
        if self.config.bridge == NO_BRIDGE {
            return old.map_or(Ok(()), |old| self.detach(state, &old));
        }
        let bridge = self.default_bridge(state, old)?;
        self.attach(state, bridge)
    }

    /// The default bridge as configured; without a wish it keeps the subnets it had.
    fn default_bridge(
        &self,
        state: &State,
        old: Option<NetworkRecord>,
    ) -> Result<NetworkRecord, NetworkError> {
        let config = &self.config;
        let former = |ipv6| {
            let mut pools = old.iter().flat_map(move |record| record.pools_of(ipv6));
            pools.next().map(|pool| pool.subnet)
        };
        let mut pools = vec![self.default_pool_v4(state, former(false))?];
        if config.ipv6 {
            pools.push(self.default_pool_v6(state, former(true))?);
        }
        let mut record = self.predefined("bridge", Driver::Bridge)?;
        record.pools = pools;
        record.ipv6 = config.ipv6;
        record.bridge = Some(BridgeRecord {
            name: config.bridge.clone(),
            made: self.makes_default_bridge(old.as_ref())?,
            icc: config.icc,
            masquerade: config.masquerade,
            host_ipv4: None,
            host_ipv6: None,
            gateway_mode_ipv4: GatewayMode::default(),
            gateway_mode_ipv6: GatewayMode::default(),
            host_binding: None,
            trusted_interfaces: Vec::new(),
            inhibit_ipv4: false,
            next_hop: config.default_gateway,
            next_hop_v6: config.default_gateway_v6,
        });
        record.options = self.default_options(&record);
        if let Some(old) = old {
            record.id = old.id;
            record.created = old.created;
            if record == old {
                return Ok(old);
            }
        }
        let id = record.id.to_string();
        self.db.put(Durability::Process, NETWORKS, &id, &record)?;
        Ok(record)
    }

    fn default_pool_v4(&self, state: &State, former: Option<IpNet>) -> Result<Pool, NetworkError> {
        let config = &self.config;
        let (subnet, gateway) = match (config.bip, former) {
            (Some(IpNet::V4(net)), _) => (IpNet::V4(net.trunc()), Some(net.addr().into())),
            (Some(IpNet::V6(net)), _) => {
                let text = format!("--bip {net}: want an IPv4 address; see --bip6");
                return Err(NetworkError::Invalid(text));
            }
            (None, Some(former)) => (former, None),
            (None, None) => (self.free_subnet(&pools::used(state)?, false)?, None),
        };
        Ok(default_pool(
            subnet,
            gateway,
            config.fixed_cidr.map(IpNet::V4),
        ))
    }

    fn default_pool_v6(&self, state: &State, former: Option<IpNet>) -> Result<Pool, NetworkError> {
        let config = &self.config;
        let fixed = config.fixed_cidr_v6.map(|net| IpNet::V6(net.trunc()));
        Ok(match (config.bip_v6, fixed, former) {
            (Some(net), range, _) => {
                let subnet = IpNet::V6(net.trunc());
                default_pool(subnet, Some(net.addr().into()), range)
            }
            (None, Some(subnet), _) | (None, None, Some(subnet)) => {
                default_pool(subnet, None, None)
            }
            (None, None, None) => {
                let subnet = self.free_subnet(&pools::used(state)?, true)?;
                default_pool(subnet, None, None)
            }
        })
    }

    /// Whether the default bridge is ours: it was before, or there is none of this name.
    fn makes_default_bridge(&self, old: Option<&NetworkRecord>) -> Result<bool, NetworkError> {
        let before = old.and_then(|record| record.bridge.as_ref());
        if let Some(before) = before.filter(|bridge| bridge.name == self.config.bridge) {
            return Ok(before.made);
        }
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let found = link::find(&socket, &self.config.bridge);
        Ok(found.map_err(NetworkError::during("bridge"))?.is_none())
    }

    fn predefined(&self, name: &str, driver: Driver) -> Result<NetworkRecord, NetworkError> {
        let record = NetworkRecord {
            id: NetworkId::from_bytes(bridge::random()?),
            name: name.to_owned(),
            driver,
            created: Timestamp::now(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: None,
            ipam_driver: "default".to_owned(),
            ipam_options: None,
            pools: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            mtu: self.config.mtu,
            interface_prefix: "eth".to_owned(),
            bridge: None,
            parent: None,
        };
        if driver != Driver::Bridge {
            let id = record.id.to_string();
            self.db.put(Durability::Process, NETWORKS, &id, &record)?;
        }
        Ok(record)
    }

    /// Switches forwarding of IPv6 on. Interfaces that take router advertisements go on doing so: the kernel would else
    /// stop listening to them, and the host would lose its own IPv6.
    pub(super) fn forward_ipv6(&self) -> Result<(), NetworkError> {
        let forwarding = "ipv6/conf/all/forwarding";
        if !self.config.ip_forward || sysctl::get(forwarding).is_ok_and(|on| on == "1") {
            return Ok(());
        }
        let failed = NetworkError::during::<std::io::Error>;
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let links = link::list(&socket).map_err(NetworkError::during("interface list"))?;
        for link in links {
            let setting = format!("ipv6/conf/{}/accept_ra", link.name);
            if sysctl::get(&setting).is_ok_and(|value| value == "1") {
                sysctl::set(&setting, "2").map_err(failed("accept_ra"))?;
            }
        }
        sysctl::set_if_there(forwarding, "1").map_err(failed("IPv6 forwarding"))
    }

    /// What `docker network inspect bridge` shows as options.
    fn default_options(&self, record: &NetworkRecord) -> BTreeMap<String, String> {
        let config = &self.config;
        let options = [
            ("bridge.default_bridge", "true".to_owned()),
            ("bridge.enable_icc", config.icc.to_string()),
            ("bridge.enable_ip_masquerade", config.masquerade.to_string()),
            (
                "bridge.host_binding_ipv4",
                config.publish_address.to_string(),
            ),
            ("bridge.name", config.bridge.clone()),
            ("driver.mtu", record.mtu.to_string()),
        ];
        options
            .into_iter()
            .map(|(name, value)| (format!("com.docker.network.{name}"), value))
            .collect()
    }

    fn load_sandboxes(&self, state: &mut State) -> Result<(), NetworkError> {
        for (key, record) in self.db.all::<SandboxRecord>(ENDPOINTS)? {
            let Ok(container) = key.parse::<ContainerId>() else {
                continue;
            };
            for endpoint in &record.endpoints {
                let Some(network) = state.networks.get_mut(&endpoint.network) else {
                    continue;
                };
                for address in endpoint.addresses() {
                    if let Some(addresses) = network.addresses_of(address) {
                        addresses.reserve(address);
                    }
                }
            }
            let held = Held {
                rules: state.port_rules(&record),
                record,
                sockets: Vec::new(),
            };
            state.sandboxes.insert(container, held);
        }
        Ok(())
    }

    /// Keeps the sandboxes of these running containers, takes their host ports again, and releases all others; called
    /// once at start.
    pub fn retain(&self, running: &[ContainerId]) -> Result<(), NetworkError> {
        let running: HashSet<&ContainerId> = running.iter().collect();
        let mut known: Vec<ContainerId> = self.lock().sandboxes.keys().copied().collect();
        known.retain(|container| !running.contains(container));
        for container in &known {
            self.close(container)?;
        }
        self.settle();
        let mut state = self.lock();
        for (container, held) in &mut state.sandboxes {
            if !held.sockets.is_empty() {
                continue;
            }
            for port in &held.record.ports {
                match ports::hold(port) {
                    Ok(socket) => held.sockets.extend(socket.map(|socket| (*port, socket))),
                    Err(error) => tracing::warn!(%container, %error, "host port is not held"),
                }
            }
        }
        drop(state);
        self.remove_strays(&running)
    }

    /// Removes ports of our bridges that no running container has.
    fn remove_strays(&self, running: &HashSet<&ContainerId>) -> Result<(), NetworkError> {
        let bridges: HashSet<u32> = self
            .lock()
            .networks
            .values()
            .map(|one| one.interface)
            .collect();
        let prefixes: Vec<String> = running
            .iter()
            .map(|container| veth_prefix(container))
            .collect();
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let links = link::list(&socket).map_err(NetworkError::during("interface list"))?;
        let mut batch = Messages::new();
        for link in links {
            let ours = link.kind == "veth" && link.name.starts_with("veth");
            let ported = link.master.is_some_and(|master| bridges.contains(&master));
            let owned = prefixes.iter().any(|prefix| link.name.starts_with(prefix));
            if ours && ported && !owned {
                link::delete(&mut batch, &link.name);
            }
        }
        match socket.run(&mut batch) {
            Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(()),
            other => other.map_err(NetworkError::during("stray interfaces")),
        }
    }

    fn warn_of_foreign_drops(&self) {
        for chain in self.warnings() {
            tracing::warn!(
                "{chain} drops forwarded packets by policy (often set by dockerd or ufw): containers have no network \
                 until that rule set accepts bridge {}",
                self.config.bridge
            );
        }
    }

    /// The chains of other programs that drop forwarded packets by policy, as `table chain`. An accept in our table
    /// cannot save a packet from them, and we never change them.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(socket) = Socket::netfilter() else {
            return Vec::new();
        };
        nft::dropping_forward_chains(&socket, Family::Ip, &self.config.table).unwrap_or_default()
    }

    /// Removes everything that this store put into the kernel; for tests and `system` resets. Sandboxes must be closed.
    pub fn destroy(&self) -> Result<(), NetworkError> {
        self.settle();
        self.set_guard(None);
        let state = self.lock();
        if self.config.firewall {
            let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
            for family in [Family::Ip, Family::Ip6] {
                nft::delete_table(&socket, family, &self.config.table)
                    .map_err(NetworkError::firewall)?;
            }
        }
        admission::remove(&self.config.bridge)?;
        for network in state.networks.values() {
            let record = &network.record;
            if let Some(driver) = drivers::of(record.driver).filter(|_| !record.config_only) {
                driver.lower(record)?;
            }
        }
        Ok(())
    }
}

/// The pair of interfaces is there exactly when the configuration wants it.
fn policy(config: &Config) -> Result<Policy, NetworkError> {
    let wanted = config.firewall && config.publish_firewall == PublishFirewall::Host;
    if !wanted {
        admission::remove(&config.bridge)?;
    }
    let admission = wanted.then(|| admission::ensure(&config.bridge));
    Ok(Policy {
        admission: admission.transpose()?,
        filters_bridged_v6: false,
    })
}

/// The only subnet of a family on the default bridge; its gateway is the first address unless chosen.
fn default_pool(subnet: IpNet, gateway: Option<IpAddr>, range: Option<IpNet>) -> Pool {
    Pool {
        subnet,
        gateway: gateway.or_else(|| Addresses::new(subnet, None).take()),
        range: range.filter(|range| *range != subnet),
        auxiliary: BTreeMap::new(),
        chosen: false,
    }
}
