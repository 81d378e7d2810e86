//! `POST /networks/{id}/connect` and `/disconnect`: a container joins or leaves a network, in its record only, or in the
//! kernel as well while it runs.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cais_sys::failpoint;
use cais_types::api::EndpointSettings;
use cais_types::{Error, ErrorClass, Result};

use crate::container::Container;
use crate::files::{self, EtcFiles};
use crate::house::{House, blocking};
use crate::network;
use crate::ports::{LiveSandbox, NetworkFacts};
use crate::record::{NetworkMode, Record};
use crate::state::Status;

/// Docker's text for containers without a network of their own.
const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any \
                      other network";
/// Docker's text for the host's network, which nobody joins or leaves.
const HOST: &str =
    "container cannot be disconnected from host network or connected to host network";
/// Docker's text for the network `none`.
const NONE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";

/// Connects a container to a network.
///
/// # Errors
/// Docker's: not found, a network mode that allows no other, wrong addresses, already connected.
pub async fn connect(
    house: &Arc<House>,
    container: &Arc<Container>,
    name: &str,
    settings: EndpointSettings,
) -> Result<()> {
    let _operation = container.operation.lock().await;
    let record = container.record();
    refuse_removed(&record)?;
    let facts = house.ports.sandboxes.check(name, &settings)?;
    if facts.driver == "host" {
        return Err(Error::invalid(HOST));
    }
    let connected = record.endpoints.contains_key(&facts.name);
    let running = record.state.status.has_process();
    match record.network_mode() {
        NetworkMode::Host | NetworkMode::Container(_) => return Err(Error::invalid(SHARED)),
        NetworkMode::None if facts.driver != "null" && !record.endpoints.is_empty() => {
            return Err(Error::invalid(NONE));
        }
        NetworkMode::Networks if facts.driver == "null" => return Err(Error::invalid(NONE)),
        _ if connected && !running => return Ok(()),
        _ => {}
    }
    if !running || facts.driver == "null" {
        house.store.change(container, |record| {
            record.endpoints.insert(facts.name.clone(), settings);
        })?;
        return Ok(());
    }
    let made = with_sandbox(house, &record, {
        let (facts, settings) = (
            facts.clone(),
            network::named(&record, &facts.name, settings.clone()),
        );
        move |house, live| house.ports.sandboxes.connect(live, &facts.name, &settings)
    });
    let made = made.await?;
    failpoint::reach("connect-made");
    let join = |record: &mut Record| {
        record
            .endpoints
            .insert(facts.name.clone(), settings.clone());
        record
            .network
            .endpoints
            .insert(facts.name.clone(), made.clone());
    };
    tell(house, container, &record, join);
    house.events.network("connect", &facts, &record.id);
    Ok(())
}

/// Disconnects a container from a network.
///
/// # Errors
/// Docker's: not found, not connected, the host's network.
pub async fn disconnect(
    house: &Arc<House>,
    container: &Arc<Container>,
    name: &str,
    force: bool,
) -> Result<()> {
    let _operation = container.operation.lock().await;
    let record = container.record();
    let found = house.ports.sandboxes.facts(name);
    if !record.state.status.has_process() || (found.is_err() && force) {
        refuse_removed(&record)?;
        let facts = found.ok();
        let name = facts.as_ref().map_or(name, |facts| facts.name.as_str());
        if !record.endpoints.contains_key(name) {
            let id = record.id;
            let text = format!("container {id} is not connected to the network {name}");
            return Err(Error::internal(text));
        }
        forget(house, container, name)?;
        if let Some(facts) = facts {
            house.events.network("disconnect", &facts, &record.id);
        }
        return Ok(());
    }
    let facts = found?;
    if record.network_mode() == NetworkMode::Host && facts.driver == "host" {
        return Err(Error::invalid(HOST));
    }
    leave(house, container, &record, &facts).await
}

async fn leave(
    house: &Arc<House>,
    container: &Arc<Container>,
    record: &Arc<Record>,
    facts: &NetworkFacts,
) -> Result<()> {
    if !record.network.endpoints.contains_key(&facts.name) {
        let (id, name) = (record.id, &facts.name);
        let text = format!("container {id} is not connected to network {name}");
        return Err(Error::internal(text));
    }
    if facts.driver != "null" {
        let name = facts.name.clone();
        with_sandbox(house, record, move |house, live| {
            house.ports.sandboxes.disconnect(live, &name)
        })
        .await?;
    }
    failpoint::reach("disconnect-made");
    tell(house, container, record, |record| {
        record.endpoints.remove(&facts.name);
        record.network.endpoints.remove(&facts.name);
    });
    house.events.network("disconnect", facts, &record.id);
    Ok(())
}

fn forget(house: &House, container: &Container, network: &str) -> Result<()> {
    let changed = house.store.change(container, |record| {
        record.endpoints.remove(network);
        record.network.endpoints.remove(network);
    });
    changed.map(drop)
}

/// Brings first the files and then the record of a running container in line with a change of its networks: what a daemon
/// has written to files that dies in between, the next one takes back by what the record says.
fn tell(house: &House, container: &Container, before: &Record, change: impl Fn(&mut Record)) {
    let mut after = before.clone();
    change(&mut after);
    write_files(house, (before, &after));
    failpoint::reach("network-filed");
    let changed = house.store.change(container, change);
    if let Err(error) = changed {
        // The record is right in memory, and is written again with its next change.
        tracing::error!(id = %container.id, %error, "after a change of networks");
    }
    failpoint::reach("network-told");
}

/// Has `hosts` and `resolv.conf` of a container follow a change of its networks.
pub fn write_files(house: &House, (before, after): (&Record, &Record)) {
    let files = EtcFiles::new(&house.directory(&after.id));
    let only = |these: &Record, others: &Record| -> Vec<EndpointSettings> {
        let these = these.network.endpoints.iter();
        these
            .filter(|(name, _)| !others.network.endpoints.contains_key(*name))
            .map(|(_, settings)| settings.clone())
            .collect()
    };
    let gone = only(before, after).into_iter();
    let gone: Vec<String> = gone
        .flat_map(|one| [one.ip_address, one.global_ipv6_address])
        .filter(|address| !address.is_empty())
        .collect();
    let new = network::own_entries(after, &only(after, before));
    let removed = match gone.as_slice() {
        [] => Ok(()),
        gone => files::remove_own(&files.hosts(), gone),
    };
    let written = removed
        .and_then(|()| match new.as_slice() {
            [] => Ok(()),
            new => files::add_own(&files.hosts(), new),
        })
        .map_err(|error| Error::internal(format!("cannot write hosts: {error}")));
    let sandboxes = &*house.ports.sandboxes;
    for result in [
        written,
        network::follow_networks((before, after), sandboxes, &files),
    ] {
        if let Err(error) = result {
            tracing::error!(id = %after.id, %error, "after a change of networks");
        }
    }
}

fn refuse_removed(record: &Record) -> Result<()> {
    if matches!(record.state.status, Status::Removing | Status::Dead) {
        let id = record.id;
        return Err(Error::new(
            ErrorClass::Forbidden,
            format!(
                "container {id} is marked for removal and cannot be connected or disconnected to the network"
            ),
        ));
    }
    Ok(())
}

/// Runs where blocking is allowed, with the network namespace of a running container.
async fn with_sandbox<T: Send + 'static>(
    house: &Arc<House>,
    record: &Arc<Record>,
    work: impl FnOnce(&House, &LiveSandbox<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (house, record) = (Arc::clone(house), Arc::clone(record));
    blocking(move || {
        let netns = namespace(&record)?;
        let live = LiveSandbox {
            container: &record.id,
            name: &record.name,
            netns: netns.as_fd(),
        };
        work(&house, &live)
    })
    .await
}

/// The network namespace of a container's first process, and not that of a later process with the same number.
///
/// # Errors
/// The process has ended.
pub fn namespace(record: &Record) -> Result<OwnedFd> {
    let pid = record.state.pid;
    let ended = |error: std::io::Error| {
        let text = format!("container {} is not running: {error}", record.id);
        Error::conflict(text)
    };
    let process = cais_sys::pidfd::open(pid).map_err(ended)?;
    let netns = File::open(format!("/proc/{pid}/ns/net")).map_err(ended)?;
    let same = cais_sys::pidfd::start_time(pid).map_err(ended)? == record.state.start_time;
    if same && cais_sys::pidfd::is_alive(process.as_fd()).map_err(ended)? {
        return Ok(netns.into());
    }
    Err(ended(std::io::ErrorKind::NotFound.into()))
}
