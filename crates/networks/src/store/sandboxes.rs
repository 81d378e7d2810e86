//! Sandboxes of containers: opened all or not at all, and closed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use cais_state::Durability;
use cais_sys::failpoint;
use cais_types::ContainerId;

use crate::error::NetworkError;
use crate::firewall::port_changes;
use crate::ports::Wish;
use crate::wire::{self, Plan};

use super::endpoints::{self, Endpoint, EndpointRequest, Guest, release};
use super::names::DnsWish;
use super::records::{Driver, ENDPOINTS, SandboxRecord};
use super::{Held, State, Store, publish};

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
    /// A sysfs of the namespace that is mounted nowhere. While this is held another mount of it takes the same short time
    /// however many namespaces the host has: the kernel looks through all of them for one that has none yet.
    pub sysfs: Option<OwnedFd>,
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
        self.open_telling(request, drop)
    }

    /// Like [`Store::open`]; `made` gets the namespace as soon as there is one, while nothing is in it.
    pub fn open_telling(
        &self,
        request: &SandboxRequest,
        made: impl FnOnce(OwnedFd) + Send + 'static,
    ) -> Result<Sandbox, NetworkError> {
        let wishes = publish::wishes(&request.ports)?;
        let container = request.container;
        self.close(&container)?;
        let allocated = self.allocate(request, &wishes)?;
        failpoint::reach("open-allocated");
        let building = wire::build(allocated.plan, made);
        let told = self.tell(&container, &allocated.record);
        let built = wire::join(building);
        failpoint::reach("open-built");
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
            sysfs: built.sysfs,
            endpoints: allocated.endpoints,
            ports: publish::shown(&allocated.record.ports),
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
        failpoint::reach("close-released");
        self.dns.change(|directory| directory.forget(container));
        self.dns.stop(*container);
        let key = container.to_string();
        self.db.delete(Durability::Process, ENDPOINTS, &key)?;
        failpoint::reach("close-forgotten");
        Ok(())
    }

    /// Writes the record and publishes the ports.
    fn tell(&self, container: &ContainerId, record: &SandboxRecord) -> Result<(), NetworkError> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        self.keep(container, record)?;
        failpoint::reach("open-recorded");
        let rules = self.lock().port_rules(record);
        self.change(&port_changes(&[], &rules, &self.policy))?;
        failpoint::reach("open-published");
        Ok(())
    }

    /// Takes addresses and ports, all or none; waits for those that closed sandboxes still hold.
    fn allocate(
        &self,
        request: &SandboxRequest,
        wishes: &[Wish],
    ) -> Result<Allocated, NetworkError> {
        let mut state = self.lock();
        self.follow_bridge_filter(&mut state)?;
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
        let published = self.publish(state, wishes, (&request.container, &record));
        let reserved = match published {
            Ok(reserved) => reserved,
            Err(error) => {
                release(state, &record.endpoints);
                return Err(error);
            }
        };
        record.ports = reserved.iter().map(|(port, _)| *port).collect();
        let held = Held {
            rules: state.port_rules(&record),
            record: record.clone(),
            sockets: publish::sockets(reserved),
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
}
