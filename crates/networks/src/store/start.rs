//! What happens when a daemon starts: the default networks, the table, and what a former daemon left.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cais_state::{Db, Durability};
use cais_types::{ContainerId, NetworkId};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::bridge;
use crate::config::Config;
use crate::error::NetworkError;
use crate::ipam;
use crate::netlink::{Messages, Socket, link};
use crate::nft::{self, Family};
use crate::{ports, sysctl, wire};

use super::records::{
    BridgeRecord, Driver, ENDPOINTS, NETWORKS, NetworkRecord, SandboxRecord, veth_prefix,
};
use super::{Held, State, Store};

impl Store {
    /// Opens the networks that the database knows, makes the default ones, and brings bridges and rules into the kernel.
    /// Published ports of containers that outlived the last daemon stay reachable all the while.
    pub fn open_store(config: Config, db: Arc<Db>) -> Result<Self, NetworkError> {
        let store = Self {
            config,
            db,
            shared: Arc::default(),
            first_index: wire::first_free_index()?,
            veth_number: AtomicU32::new(u32::from_ne_bytes(bridge::random()?)),
        };
        let mut state = State::default();
        store.load_networks(&mut state)?;
        store.load_sandboxes(&mut state)?;
        if store.config.ip_forward && sysctl::get("ipv4/ip_forward").is_ok_and(|on| on == "0") {
            sysctl::set("ipv4/ip_forward", "1").map_err(NetworkError::during("ip_forward"))?;
        }
        store.replace_rules(&state)?;
        store.warn_of_foreign_drops();
        *store.lock() = state;
        Ok(store)
    }

    fn load_networks(&self, state: &mut State) -> Result<(), NetworkError> {
        let mut records: Vec<NetworkRecord> = Vec::new();
        for (_, record) in self.db.all::<NetworkRecord>(NETWORKS)? {
            records.push(record);
        }
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if !records.iter().any(|record| record.name == name) {
                records.push(self.predefined(name, driver, None)?);
            }
        }
        let old = records.iter().position(|record| record.name == "bridge");
        let old = old.map(|index| records.swap_remove(index));
        for record in records {
            self.attach(state, record)?;
        }
        let bridge = self.default_bridge(state, old)?;
        self.attach(state, bridge)
    }

    /// The default bridge as configured; without a wish it keeps the subnet it had.
    fn default_bridge(
        &self,
        state: &State,
        old: Option<NetworkRecord>,
    ) -> Result<NetworkRecord, NetworkError> {
        let config = &self.config;
        let former = old.as_ref().and_then(|record| record.bridge.as_ref());
        let (subnet, gateway) = match (config.bip, former) {
            (Some(IpNet::V4(net)), _) => (net.trunc(), net.addr()),
            (Some(IpNet::V6(net)), _) => {
                let text = format!("--bip {net}: the default bridge has no IPv6");
                return Err(NetworkError::Unsupported(text));
            }
            (None, Some(former)) => (former.subnet, former.gateway),
            (None, None) => {
                let subnet = self.free_subnet(state)?;
                (subnet, ipam::first_address(subnet))
            }
        };
        let bridge = BridgeRecord {
            name: config.bridge.clone(),
            subnet,
            gateway,
            range: config.fixed_cidr,
            mtu: config.mtu,
            icc: config.icc,
            masquerade: config.masquerade,
        };
        if let Some(old) = &old
            && old.bridge.as_ref() == Some(&bridge)
        {
            return Ok(old.clone());
        }
        let mut record = self.predefined("bridge", Driver::Bridge, Some(bridge))?;
        if let Some(old) = old {
            record.id = old.id;
            record.created = old.created;
        }
        let id = record.id.to_string();
        self.db.put(Durability::Process, NETWORKS, &id, &record)?;
        Ok(record)
    }

    fn predefined(
        &self,
        name: &str,
        driver: Driver,
        bridge: Option<BridgeRecord>,
    ) -> Result<NetworkRecord, NetworkError> {
        let options = bridge.as_ref().map(|bridge| self.default_options(bridge));
        let record = NetworkRecord {
            id: NetworkId::from_bytes(bridge::random()?),
            name: name.to_owned(),
            driver,
            created: Timestamp::now(),
            internal: false,
            options: options.unwrap_or_default(),
            labels: BTreeMap::new(),
            bridge,
        };
        let id = record.id.to_string();
        if driver != Driver::Bridge {
            self.db.put(Durability::Process, NETWORKS, &id, &record)?;
        }
        Ok(record)
    }

    /// What `docker network inspect bridge` shows as options.
    fn default_options(&self, bridge: &BridgeRecord) -> BTreeMap<String, String> {
        let options = [
            ("bridge.default_bridge", "true".to_owned()),
            ("bridge.enable_icc", bridge.icc.to_string()),
            ("bridge.enable_ip_masquerade", bridge.masquerade.to_string()),
            (
                "bridge.host_binding_ipv4",
                self.config.publish_address.to_string(),
            ),
            ("bridge.name", bridge.name.clone()),
            ("driver.mtu", bridge.mtu.to_string()),
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
                let network = state.networks.get_mut(&endpoint.network);
                if let Some(addresses) = network.and_then(|one| one.addresses.as_mut()) {
                    addresses.reserve(endpoint.address);
                }
            }
            let sockets = Vec::new();
            state.sandboxes.insert(container, Held { record, sockets });
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
                    Ok(socket) => held.sockets.extend(socket),
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
        let state = self.lock();
        if self.config.firewall {
            let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
            nft::delete_table(&socket, Family::Ip, &self.config.table)
                .map_err(NetworkError::during("firewall rules"))?;
        }
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        for network in state.networks.values() {
            if let Some(record) = &network.record.bridge {
                bridge::remove(&socket, &record.name)?;
            }
        }
        Ok(())
    }
}

/// The IPv4 address of a wish, if it is one.
pub(super) fn only_v4(address: IpAddr) -> Result<Ipv4Addr, NetworkError> {
    ipam::v4(address).ok_or_else(|| {
        let text = format!("cannot give {address} to a container: the network has no IPv6");
        NetworkError::Unsupported(text)
    })
}
