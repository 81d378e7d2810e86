//! The networks of one daemon. One lock over what is allocated; the kernel is asked outside of it where that takes long.

mod checks;
mod endpoints;
mod live;
mod names;
mod networks;
mod pools;
mod records;
mod sandboxes;
mod start;
mod sweep;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cais_state::Db;
use cais_types::{ContainerId, NetworkId};

use crate::config::Config;
use crate::dns::Dns;
use crate::error::NetworkError;
use crate::firewall;
use crate::ipam::Addresses;
use crate::netlink::Socket;
use crate::nft;

pub use checks::Facts;
pub use endpoints::{Endpoint, EndpointRequest};
pub use live::{Kept, Live};
pub use names::DnsWish;
pub use networks::{NetworkRequest, NetworkState};
pub use pools::PoolRequest;
pub use records::{
    BridgeRecord, Driver, EndpointRecord, GatewayMode, Link, NetworkRecord, ParentMode,
    ParentRecord, Pool, SandboxRecord,
};
pub use sandboxes::{PortBinding, PortRequest, Sandbox, SandboxRequest};

/// The networks of a daemon, and the sandboxes on them.
#[derive(Debug)]
pub struct Store {
    config: Config,
    db: Arc<Db>,
    shared: Arc<Shared>,
    dns: Dns,
    first_index: u32,
    veth_number: AtomicU32,
}

/// What callers and the thread that takes ports out of the firewall share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was released.
    released: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<NetworkId, Network>,
    sandboxes: HashMap<ContainerId, Held>,
    /// Closed, but their ports are still in the firewall, so that nobody may have their addresses and ports yet.
    closing: Vec<Held>,
    /// Whether a thread works on `closing`.
    sweeping: bool,
    /// Where the search for a free host port goes on.
    port_hint: u16,
}

#[derive(Debug)]
struct Network {
    record: NetworkRecord,
    /// Of each pool of the record.
    addresses: Vec<Addresses>,
    /// Interface number of the bridge or the parent.
    interface: u32,
}

#[derive(Debug)]
struct Held {
    record: SandboxRecord,
    /// Bound sockets that keep the host ports ours.
    sockets: Vec<OwnedFd>,
}

impl State {
    fn find(&self, name: &str) -> Result<&Network, NetworkError> {
        let networks = || self.networks.values();
        if let Some(found) = networks().find(|network| network.record.name == name) {
            return Ok(found);
        }
        let missing = || NetworkError::NotFound(name.to_owned());
        if name.is_empty() {
            return Err(missing());
        }
        let mut found =
            networks().filter(|network| network.record.id.to_string().starts_with(name));
        let first = found.next().ok_or_else(missing)?;
        match found.count() {
            0 => Ok(first),
            more => Err(NetworkError::Invalid(format!(
                "network {name} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    fn rule_set(&self, table: &str) -> nft::RuleSet {
        let bridges: Vec<_> = self
            .networks
            .values()
            .filter_map(|network| network.record.rules())
            .collect();
        let ports: Vec<_> = self
            .sandboxes
            .values()
            .flat_map(|held| held.record.rules())
            .collect();
        firewall::rule_set(table, &bridges, &ports)
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Finds a network by name, id or unique id prefix.
    pub fn find(&self, network: &str) -> Result<(NetworkId, String), NetworkError> {
        let state = self.lock();
        let found = state.find(network)?;
        Ok((found.record.id, found.record.name.clone()))
    }

    /// The address that `host-gateway` stands for.
    pub fn host_gateway(&self) -> Option<IpAddr> {
        if self.config.host_gateway.is_some() {
            return self.config.host_gateway;
        }
        let state = self.lock();
        let pools = &state.find("bridge").ok()?.record.pools;
        pools.first()?.gateway
    }

    /// The rule set as it should be in the kernel now.
    pub fn rule_set(&self) -> nft::RuleSet {
        self.lock().rule_set(&self.config.table)
    }

    fn replace_rules(&self, state: &State) -> Result<(), NetworkError> {
        if !self.config.firewall {
            return Ok(());
        }
        replace_table(state, &self.config.table)
    }
}

fn replace_table(state: &State, table: &str) -> Result<(), NetworkError> {
    let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
    nft::replace(&socket, &state.rule_set(table)).map_err(NetworkError::during("firewall rules"))
}
