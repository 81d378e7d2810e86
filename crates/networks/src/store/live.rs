//! Networks joined and left while the container runs. A record is written before the kernel is changed where something is
//! made, and after it where something goes; [`Store::compare`] settles what a daemon left that died in between.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use cais_state::Durability;
use cais_sys::failpoint;
use cais_types::ContainerId;

use crate::error::NetworkError;
use crate::firewall::port_changes;
use crate::netlink::{Messages, Socket, link};
use crate::wire;

use super::endpoints::{self, Endpoint, EndpointRequest, Guest, defaults, release};
use super::names::DnsWish;
use super::records::{ENDPOINTS, EndpointRecord, SandboxRecord};
use super::sandboxes::PortBinding;
use super::{Held, Store};

/// A running container.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Which.
    pub container: &'a ContainerId,
    /// Its name.
    pub name: &'a str,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
}

/// What a container has that outlived a daemon.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Those that it does not have any more.
    pub gone: Vec<Endpoint>,
    /// What is published where.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
}

impl Store {
    /// Puts a running container on one more network: all of it or nothing.
    pub fn connect(
        &self,
        live: &Live<'_>,
        network: &str,
        wanted: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let (before, after, interface, shown) = {
            let mut state = self.lock();
            self.follow_bridge_filter(&mut state)?;
            let id = state.find(network)?.record.id;
            let held = state.sandboxes.get(live.container);
            let before = held.map_or_else(|| empty(live.name), |held| held.record.clone());
            if let Some(there) = before.endpoints.iter().find(|one| one.network == id) {
                let text = format!(
                    "endpoint with name {} already exists in network {}",
                    live.name, there.network_name
                );
                return Err(NetworkError::Forbidden(text));
            }
            let guest = Guest {
                container: live.container,
                others: &before.endpoints,
            };
            let endpoint = self.endpoint(&mut state, &guest, (network, wanted))?;
            let publishes = !before.ports.is_empty();
            let interface = match endpoints::interface(&state, &endpoint, publishes) {
                Ok(interface) => interface,
                Err(error) => {
                    release(&mut state, &[endpoint]);
                    return Err(error);
                }
            };
            let shown = endpoints::shown(&state, &endpoint);
            let mut after = before.clone();
            after.endpoints.push(endpoint);
            let held = state.sandboxes.entry(*live.container);
            let held = held.or_insert_with(|| Held {
                record: empty(live.name),
                sockets: Vec::new(),
                rules: Vec::new(),
            });
            held.record = after.clone();
            (before, after, interface, shown)
        };
        failpoint::reach("connect-allocated");
        let routes = (&defaults(&before), &defaults(&after));
        let reached = |point| move |()| failpoint::reach(point);
        let done = self
            .keep(live.container, &after)
            .map(reached("connect-recorded"))
            .and_then(|()| wire::plug(live.netns.as_fd(), &interface, routes))
            .map(reached("connect-plugged"))
            .and_then(|()| self.follow(live.container, &before, &after))
            .map(reached("connect-published"))
            .and_then(|()| self.follow_names(live, (&before, &after)))
            .map(reached("connect-named"));
        if let Err(error) = done {
            self.take_back(live, (&before, &after))?;
            return Err(error);
        }
        Ok(shown)
    }

    /// Undoes a connect that failed.
    fn take_back(
        &self,
        live: &Live<'_>,
        (before, after): (&SandboxRecord, &SandboxRecord),
    ) -> Result<(), NetworkError> {
        let added = after.endpoints.last();
        if let Some(added) = added {
            let routes = (&defaults(after), &defaults(before));
            if let Err(error) = wire::unplug(live.netns, &added.interface, routes) {
                tracing::warn!(%error, container = %live.container, "undoing a connect");
            }
        }
        if let Err(error) = self.follow_names(live, (after, before)) {
            tracing::warn!(%error, container = %live.container, "undoing a connect");
        }
        let mut state = self.lock();
        release(&mut state, added.map_or(&[], std::slice::from_ref));
        if let Some(held) = state.sandboxes.get_mut(live.container) {
            held.record = before.clone();
        }
        drop(state);
        self.keep(live.container, before)
    }

    /// Takes a running container off a network.
    pub fn disconnect(&self, live: &Live<'_>, network: &str) -> Result<(), NetworkError> {
        let (before, endpoint) = {
            let state = self.lock();
            let network = &state.find(network)?.record;
            let held = state.sandboxes.get(live.container);
            let record = held.map_or_else(|| empty(live.name), |held| held.record.clone());
            let mut endpoints = record.endpoints.iter();
            let found = endpoints.find(|one| one.network == network.id).cloned();
            let missing = || {
                let (container, network) = (live.container, &network.name);
                let text = format!("container {container} is not connected to network {network}");
                NetworkError::NotConnected(text)
            };
            let endpoint = found.ok_or_else(missing)?;
            (record, endpoint)
        };
        self.drop_endpoint(live, before, &endpoint)
    }

    fn drop_endpoint(
        &self,
        live: &Live<'_>,
        before: SandboxRecord,
        endpoint: &EndpointRecord,
    ) -> Result<(), NetworkError> {
        let mut after = before.clone();
        after.endpoints.retain(|one| one.id != endpoint.id);
        self.follow(live.container, &before, &after)?;
        failpoint::reach("disconnect-published");
        self.follow_names(live, (&before, &after))?;
        failpoint::reach("disconnect-named");
        let routes = (&defaults(&before), &defaults(&after));
        wire::unplug(live.netns, &endpoint.interface, routes)?;
        failpoint::reach("disconnect-unplugged");
        remove_near_end(endpoint)?;
        let mut state = self.lock();
        release(&mut state, std::slice::from_ref(endpoint));
        if let Some(held) = state.sandboxes.get_mut(live.container) {
            held.record = after.clone();
        }
        drop(state);
        failpoint::reach("disconnect-released");
        self.keep(live.container, &after)
    }

    /// Brings the record of a container that outlived a daemon and its kernel objects together. `known` are the endpoints
    /// that a client was told of; without any, nothing was told, and what the kernel has is believed. Others, and those
    /// whose interface is missing, go. Answers what is left, and the published ports.
    pub fn compare(&self, live: &Live<'_>, known: &[String]) -> Result<Kept, NetworkError> {
        let record = {
            let state = self.lock();
            let held = state.sandboxes.get(live.container);
            held.map(|held| held.record.clone())
        };
        let Some(mut record) = record else {
            return Ok(Kept::default());
        };
        let there = wire::interfaces(live.netns)?;
        let mut gone = Vec::new();
        for endpoint in record.endpoints.clone() {
            let told = known.is_empty() || known.contains(&endpoint.id);
            if told && there.contains(&endpoint.interface) {
                continue;
            }
            self.drop_endpoint(live, record.clone(), &endpoint)?;
            record.endpoints.retain(|one| one.id != endpoint.id);
            gone.push(endpoints::shown(&self.lock(), &endpoint));
        }
        let state = self.lock();
        let endpoints = record.endpoints.iter();
        Ok(Kept {
            endpoints: endpoints
                .map(|endpoint| endpoints::shown(&state, endpoint))
                .collect(),
            gone,
            ports: super::publish::shown(&record.ports),
        })
    }

    /// Writes the record of a sandbox.
    pub(super) fn keep(
        &self,
        container: &ContainerId,
        record: &SandboxRecord,
    ) -> Result<(), NetworkError> {
        let key = container.to_string();
        Ok(self.db.put(Durability::Process, ENDPOINTS, &key, record)?)
    }

    /// What follows from a change of the endpoints of a sandbox, after they are made and before they go: its published
    /// ports lead to its new gateway, in one transaction.
    pub(super) fn follow(
        &self,
        container: &ContainerId,
        before: &SandboxRecord,
        after: &SandboxRecord,
    ) -> Result<(), NetworkError> {
        let (old, new) = {
            let mut state = self.lock();
            let (old, new) = (state.port_rules(before), state.port_rules(after));
            if let Some(held) = state.sandboxes.get_mut(container) {
                held.rules.clone_from(&new);
            }
            (old, new)
        };
        let changed = self.change(&port_changes(&old, &new, &self.policy));
        // A table that was made anew meanwhile has the new ones already.
        changed.or_else(|_| self.replace_rules(&self.lock()))
    }
}

fn empty(name: &str) -> SandboxRecord {
    SandboxRecord {
        name: name.to_owned(),
        endpoints: Vec::new(),
        ports: Vec::new(),
        dns: DnsWish::default(),
    }
}

/// The near end goes with the far one; here it goes even when the container has renamed that.
fn remove_near_end(endpoint: &EndpointRecord) -> Result<(), NetworkError> {
    if endpoint.veth.is_empty() {
        return Ok(());
    }
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let mut batch = Messages::new();
    link::delete(&mut batch, &endpoint.veth);
    match socket.run(&mut batch) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(()),
        other => other.map_err(NetworkError::during("container interface")),
    }
}
