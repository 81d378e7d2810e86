//! Sandboxes of containers: opened all or not at all, and closed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use cais_state::Durability;
use cais_types::{ContainerId, NetworkId};
use ipnet::{IpNet, Ipv4Net};

use crate::bridge;
use crate::error::NetworkError;
use crate::firewall;
use crate::netlink::link::Mac;
use crate::ports::{self, PublishedPort, Wish};
use crate::wire::{self, Interface, Plan};

use super::records::{Driver, ENDPOINTS, EndpointRecord, SandboxRecord, veth_prefix};
use super::start::only_v4;
use super::sweep::{self, release};
use super::{Held, State, Store};

/// What is wanted of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointRequest {
    /// A fixed address.
    pub address: Option<IpAddr>,
    /// A fixed Ethernet address.
    pub mac: Option<Mac>,
}

/// A host address and port, as clients write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortBinding {
    /// Empty for the daemon's default.
    pub host_ip: String,
    /// Empty for any free one, `8000-8010` for a free one of a range.
    pub host_port: String,
}

/// A port that a container wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// `80/tcp`.
    pub container_port: String,
    /// Where.
    pub bindings: Vec<PortBinding>,
}

/// Everything a sandbox is made from.
#[derive(Clone, Debug)]
pub struct SandboxRequest {
    /// Whose it is.
    pub container: ContainerId,
    /// The container's name, for messages.
    pub name: String,
    /// Networks by name or id. None, or the network `none`: `lo` only.
    pub endpoints: BTreeMap<String, EndpointRequest>,
    /// What is to be published.
    pub ports: Vec<PortRequest>,
    /// Settings below `net.` that must be made inside.
    pub sysctls: BTreeMap<String, String>,
}

/// An endpoint as it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: NetworkId,
    /// 64 hex digits.
    pub endpoint_id: String,
    /// Next hop of its default route; `None` on internal networks.
    pub gateway: Option<IpAddr>,
    /// Its address.
    pub address: IpAddr,
    /// Bits of the subnet's prefix.
    pub prefix_len: u8,
    /// `02:42:...`.
    pub mac: String,
}

/// A ready sandbox.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace, which lives as long as somebody holds this or a process is in it.
    pub netns: OwnedFd,
    /// By the name in the request.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What is published where.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
}

/// A sandbox that has its addresses and ports, but no interfaces yet.
struct Allocated {
    plan: Plan,
    endpoints: BTreeMap<String, Endpoint>,
    record: SandboxRecord,
}

impl Store {
    /// Makes the namespace with its interfaces, addresses, routes and published ports: all of it or nothing.
    pub fn open(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError> {
        let wishes = self.wishes(request)?;
        let container = request.container;
        self.close(&container)?;
        let allocated = self.allocate(request, &wishes)?;
        let building = wire::build(allocated.plan);
        let told = self.tell(&container, &allocated.record);
        let built = wire::join(building);
        let netns = match told.and(built) {
            Ok(netns) => netns,
            Err(error) => {
                self.close(&container)?;
                return Err(error);
            }
        };
        Ok(Sandbox {
            netns,
            endpoints: allocated.endpoints,
            ports: shown(&allocated.record.ports),
        })
    }

    /// Releases addresses and ports of a container; a missing sandbox is no error. Published ports follow within
    /// milliseconds (see [`Store::settle`]); opens that need them wait. Its interfaces go with its namespace,
    /// which the kernel takes apart in the background: deleting them here would wait for that, some 16 ms each.
    pub fn close(&self, container: &ContainerId) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let Some(held) = state.sandboxes.remove(container) else {
            return Ok(());
        };
        self.let_go(&mut state, held);
        drop(state);
        let key = container.to_string();
        Ok(self.db.delete(Durability::Process, ENDPOINTS, &key)?)
    }

    /// Writes the record and publishes the ports.
    fn tell(&self, container: &ContainerId, record: &SandboxRecord) -> Result<(), NetworkError> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        let key = container.to_string();
        self.db.put(Durability::Process, ENDPOINTS, &key, record)?;
        let rules = record.rules();
        if !self.config.firewall || rules.is_empty() {
            return Ok(());
        }
        sweep::change(&self.config.table, &firewall::port_changes(&rules, true))
    }

    fn wishes(&self, request: &SandboxRequest) -> Result<Vec<Wish>, NetworkError> {
        let mut wishes = Vec::new();
        for port in &request.ports {
            for binding in &port.bindings {
                let default = self.config.publish_address;
                let (address, number) = (&binding.host_ip, &binding.host_port);
                wishes.push(ports::wish(&port.container_port, address, number, default)?);
            }
        }
        Ok(wishes)
    }

    /// Takes addresses and ports, all or none; waits for those that closed sandboxes still hold.
    fn allocate(
        &self,
        request: &SandboxRequest,
        wishes: &[Wish],
    ) -> Result<Allocated, NetworkError> {
        let mut state = self.lock();
        loop {
            match self.try_allocate(&mut state, request, wishes) {
                Err(_) if !state.closing.is_empty() => {
                    let waiting = self.shared.released.wait(state);
                    state = waiting.unwrap_or_else(PoisonError::into_inner);
                }
                other => return other,
            }
        }
    }

    fn try_allocate(
        &self,
        state: &mut State,
        request: &SandboxRequest,
        wishes: &[Wish],
    ) -> Result<Allocated, NetworkError> {
        let mut allocated = Allocated {
            plan: Plan {
                interfaces: Vec::new(),
                gateway: None,
                sysctls: request.sysctls.clone().into_iter().collect(),
                first_index: self.first_index,
            },
            endpoints: BTreeMap::new(),
            record: SandboxRecord {
                name: request.name.clone(),
                endpoints: Vec::new(),
                ports: Vec::new(),
            },
        };
        for (network, wanted) in &request.endpoints {
            if let Err(error) = self.endpoint(state, request, (network, wanted), &mut allocated) {
                release(state, &allocated.record.endpoints);
                return Err(error);
            }
        }
        let sockets = match self.publish(state, wishes, &mut allocated.record) {
            Ok(sockets) => sockets,
            Err(error) => {
                release(state, &allocated.record.endpoints);
                return Err(error);
            }
        };
        let record = allocated.record.clone();
        let held = Held { record, sockets };
        state.sandboxes.insert(request.container, held);
        Ok(allocated)
    }

    fn endpoint(
        &self,
        state: &mut State,
        request: &SandboxRequest,
        (name, wanted): (&str, &EndpointRequest),
        allocated: &mut Allocated,
    ) -> Result<(), NetworkError> {
        let id = state.find(name)?.record.id;
        let Some(network) = state.networks.get_mut(&id) else {
            return Err(NetworkError::NotFound(name.to_owned()));
        };
        let (Some(record), Some(addresses)) = (&network.record.bridge, &mut network.addresses)
        else {
            if network.record.driver == Driver::Null && request.endpoints.len() == 1 {
                return Ok(());
            }
            let text =
                format!("network {name} cannot be combined with others or made a sandbox of");
            return Err(NetworkError::Invalid(text));
        };
        let mac = match wanted.mac {
            Some(mac) => mac,
            None => bridge::random_mac()?,
        };
        let endpoint_id = hex::encode(bridge::random::<32>()?);
        let address = match wanted.address {
            Some(address) => {
                let address = only_v4(address)?;
                let free = addresses.reserve(address);
                free.then_some(address).ok_or(NetworkError::AddressInUse)?
            }
            None => addresses.take().ok_or_else(|| NetworkError::NoAddress {
                name: network.record.name.clone(),
                id: id.to_string(),
            })?,
        };
        let number = self.veth_number.fetch_add(1, Ordering::Relaxed) & 0xfff;
        let veth = format!("{}{number:03x}", veth_prefix(&request.container));
        let gateway = (!network.record.internal).then_some(IpAddr::V4(record.gateway));
        let prefix_len = record.subnet.prefix_len();
        allocated.plan.gateway = allocated.plan.gateway.or(gateway);
        allocated.plan.interfaces.push(Interface {
            veth: veth.clone(),
            name: format!("eth{}", allocated.plan.interfaces.len()),
            mac,
            address: with_prefix(address, prefix_len),
            mtu: record.mtu,
            bridge: network.interface,
            mode: bridge::port_mode(record.icc, !request.ports.is_empty()),
        });
        allocated.record.endpoints.push(EndpointRecord {
            network: id,
            id: endpoint_id.clone(),
            address,
            mac,
            veth,
        });
        let endpoint = Endpoint {
            network_id: id,
            endpoint_id,
            gateway,
            address: address.into(),
            prefix_len,
            mac: mac_text(mac),
        };
        allocated.endpoints.insert(name.to_owned(), endpoint);
        Ok(())
    }

    /// Takes the host ports and answers the sockets that hold them.
    fn publish(
        &self,
        state: &mut State,
        wishes: &[Wish],
        record: &mut SandboxRecord,
    ) -> Result<Vec<OwnedFd>, NetworkError> {
        let mut sockets = Vec::new();
        let Some(first) = record.endpoints.first().filter(|_| !wishes.is_empty()) else {
            return Ok(sockets);
        };
        let held = state.sandboxes.values();
        let mut taken: Vec<PublishedPort> =
            held.flat_map(|held| held.record.ports.clone()).collect();
        for wish in wishes {
            let reserved = ports::reserve(wish, &taken, state.port_hint);
            let (port, socket) = reserved.map_err(|source| NetworkError::Publish {
                name: record.name.clone(),
                id: first.id.clone(),
                source: Box::new(source),
            })?;
            if wish.any_port() {
                state.port_hint = port.port.wrapping_add(1);
            }
            sockets.extend(socket);
            taken.push(port);
            record.ports.push(port);
        }
        Ok(sockets)
    }
}

/// What `NetworkSettings.Ports` shows.
fn shown(ports: &[PublishedPort]) -> BTreeMap<String, Vec<PortBinding>> {
    let mut map: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports {
        let key = format!("{}/{}", port.container_port, port.protocol.name());
        map.entry(key).or_default().push(PortBinding {
            host_ip: port.address.to_string(),
            host_port: port.port.to_string(),
        });
    }
    map
}

/// An address of the subnet of its bridge; the prefix length comes from a subnet and is never too long.
fn with_prefix(address: Ipv4Addr, prefix_len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, prefix_len))
}

/// `02:00:...`.
fn mac_text(mac: Mac) -> String {
    let digits: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}
