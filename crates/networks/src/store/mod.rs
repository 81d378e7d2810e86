//! The networks of one daemon. One lock over what is allocated; the kernel is asked outside of it where that takes long.

mod bridged;
mod checks;
mod endpoints;
mod guard;
mod live;
mod names;
mod networks;
mod pools;
mod publish;
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
use crate::firewall::{self, BridgeRules, Policy, PortRule};
use crate::ipam::Addresses;
use crate::netlink::Socket;
use crate::nft;
use crate::ports::PublishedPort;

use bridged::Bridged;
use guard::Guard;

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
    policy: Policy,
    guard: Mutex<Option<Guard>>,
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
    /// As it was when ports and rules were made.
    bridged: Bridged,
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
    sockets: Vec<(PublishedPort, OwnedFd)>,
    /// Its published ports as the firewall has them.
    rules: Vec<PortRule>,
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

    fn bridges(&self) -> Vec<BridgeRules> {
        let networks = self.networks.values();
        networks.filter_map(|one| one.record.rules()).collect()
    }

    /// Which tables there should be.
    fn families(&self) -> Vec<nft::Family> {
        firewall::families(&self.bridges())
    }

    fn rule_sets(&self, table: &str, policy: &Policy) -> Vec<nft::RuleSet> {
        let mut bridges = self.bridges();
        bridges.sort_by(|one, other| one.bridge.cmp(&other.bridge));
        let held = self.sandboxes.values();
        let mut ports: Vec<_> = held.flat_map(|held| held.rules.clone()).collect();
        ports.sort_by_key(|rule| (rule.target, rule.protocol, rule.host));
        let policy = Policy {
            filters_bridged_v6: self.bridged.six,
            ..policy.clone()
        };
        firewall::rule_sets(table, &bridges, &ports, &policy)
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

    /// The tables as they should be in the kernel now: that of IPv4, and that of IPv6 when a network has it.
    pub fn rule_sets(&self) -> Vec<nft::RuleSet> {
        self.lock().rule_sets(&self.config.table, &self.policy)
    }

    fn replace_rules(&self, state: &State) -> Result<(), NetworkError> {
        if !self.config.firewall {
            return Ok(());
        }
        replace_tables(state, &self.config.table, &self.policy)
    }
}

fn replace_tables(state: &State, table: &str, policy: &Policy) -> Result<(), NetworkError> {
    let failed = NetworkError::firewall;
    let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
    let rule_sets = state.rule_sets(table, policy);
    nft::replace(&socket, &rule_sets).map_err(failed)?;
    let six = nft::Family::Ip6;
    let wanted = rule_sets.iter().any(|rules| rules.family == six);
    if !wanted && nft::has_table(&socket, six, table).map_err(failed)? {
        nft::delete_table(&socket, six, table).map_err(failed)?;
    }
    Ok(())
}
