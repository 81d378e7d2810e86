//! Sandboxes of containers: opened all or not at all, and closed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use cais_state::Durability;
use cais_types::ContainerId;

use crate::error::NetworkError;
use crate::firewall;
use crate::ports::{self, PublishedPort, Wish};
use crate::wire::{self, Plan};

use super::endpoints::{self, Endpoint, EndpointRequest, Guest, release};
use super::names::DnsWish;
use super::records::{Driver, ENDPOINTS, SandboxRecord};
use super::{Held, State, Store, sweep};

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
    /// How it wants names to be resolved.
    pub dns: DnsWish,
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
        let built = match told.and(built) {
            Ok(built) => built,
            Err(error) => {
                self.close(&container)?;
                return Err(error);
            }
        };
        if let Some(sockets) = built.resolver {
            let settings = self.dns_settings(&self.lock(), &allocated.record);
            self.dns.serve(container, sockets, settings);
        }
        Ok(Sandbox {
            netns: built.netns,
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
        self.dns.change(|directory| directory.forget(container));
        self.dns.stop(*container);
        let key = container.to_string();
        Ok(self.db.delete(Durability::Process, ENDPOINTS, &key)?)
    }

    /// Writes the record and publishes the ports.
    fn tell(&self, container: &ContainerId, record: &SandboxRecord) -> Result<(), NetworkError> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        self.keep(container, record)?;
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
        let mut record = SandboxRecord {
            name: request.name.clone(),
            endpoints: Vec::new(),
            ports: Vec::new(),
            dns: request.dns.clone(),
        };
        let (plan, endpoints) = match self.join_all(state, request, &mut record) {
            Ok(joined) => joined,
            Err(error) => {
                release(state, &record.endpoints);
                return Err(error);
            }
        };
        let sockets = match self.publish(state, wishes, &mut record) {
            Ok(sockets) => sockets,
            Err(error) => {
                release(state, &record.endpoints);
                return Err(error);
            }
        };
        let held = Held {
            record: record.clone(),
            sockets,
        };
        self.introduce(state, &request.container, &record);
        state.sandboxes.insert(request.container, held);
        Ok(Allocated {
            plan,
            endpoints,
            record,
        })
    }

    /// Takes addresses on all networks into the record; when it fails, what the record has is to be released.
    fn join_all(
        &self,
        state: &mut State,
        request: &SandboxRequest,
        record: &mut SandboxRecord,
    ) -> Result<(Plan, BTreeMap<String, Endpoint>), NetworkError> {
        let mut shown = BTreeMap::new();
        let mut interfaces = Vec::new();
        for (network, wanted) in endpoints::in_order(&request.endpoints) {
            let alone = request.endpoints.len() == 1;
            let record_of = &state.find(network)?.record;
            if alone && record_of.driver == Driver::Null && !record_of.config_only {
                break;
            }
            let guest = Guest {
                container: &request.container,
                others: &record.endpoints,
            };
            let endpoint = self.endpoint(state, &guest, (network, wanted))?;
            record.endpoints.push(endpoint.clone());
            let publishes = !request.ports.is_empty();
            interfaces.push(endpoints::interface(state, &endpoint, publishes)?);
            shown.insert(network.clone(), endpoints::shown(state, &endpoint));
        }
        let plan = Plan {
            interfaces,
            defaults: endpoints::defaults(record),
            sysctls: request.sysctls.clone().into_iter().collect(),
            first_index: self.first_index,
            resolver: state.has_resolver(record),
        };
        Ok((plan, shown))
    }

    /// Takes the host ports and answers the sockets that hold them.
    fn publish(
        &self,
        state: &mut State,
        wishes: &[Wish],
        record: &mut SandboxRecord,
    ) -> Result<Vec<OwnedFd>, NetworkError> {
        let mut sockets = Vec::new();
        let Some(first) = record.published().filter(|_| !wishes.is_empty()).cloned() else {
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
pub(super) fn shown(ports: &[PublishedPort]) -> BTreeMap<String, Vec<PortBinding>> {
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
