//! Legacy links (`--link`) on the default bridge: a name for another container in `/etc/hosts`, and variables that tell
//! where its ports are. On networks of users' own, links are names for the resolver and nothing of them is here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cais_types::api::HostConfig;
use cais_types::{ContainerId, Error, Result};
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::files::{self, EtcFiles, OwnAddress};
use crate::house::{House, blocking};
use crate::record::{NetworkMode, Record};

/// The network that links are for.
const NETWORK: &str = "bridge";

/// Another container under a name of this one's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub target: ContainerId,
    pub alias: String,
}

/// What the links came to when the container started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Variables.
    pub env: Vec<String>,
    /// Lines of `/etc/hosts`.
    pub hosts: Vec<LinkedHost>,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedHost {
    pub target: ContainerId,
    pub address: String,
    pub names: Vec<String>,
}

/// Reads `NAME`, `NAME:ALIAS`, or the form that `inspect` shows, `/NAME:/SELF/ALIAS`.
fn parse(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    let mut parts = text.split(':');
    let (name, alias) = (parts.next().unwrap_or(text), parts.next());
    if parts.next().is_some() || name.is_empty() || alias == Some("") {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    let alias = alias.unwrap_or(name);
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    Ok((name.trim_start_matches('/'), alias))
}

/// Finds the containers that a new one links to; those of other networks than the default bridge are the resolver's.
///
/// # Errors
/// Docker's: the format, no such container, one on the host's network.
pub fn resolve(house: &House, host: &HostConfig) -> Result<Vec<Link>> {
    let texts = host.links.iter().flatten();
    let mut links = Vec::new();
    for text in texts {
        let (name, alias) = parse(text)?;
        if host.network_mode != NETWORK {
            continue;
        }
        let target = house.store.find(name).map_err(|error| {
            let text = format!("could not get container for {name}: {}", error.message());
            Error::invalid(text)
        })?;
        if target.record().network_mode() == NetworkMode::Host {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior",
            ));
        }
        links.push(Link {
            target: target.id,
            alias: alias.to_owned(),
        });
    }
    Ok(links)
}

/// What the links come to now; containers that have been removed since are left out.
///
/// # Errors
/// Internal: a container that is not on the default bridge; Conflict: one that does not run.
pub fn evaluate(house: &House, record: &Record) -> Result<Linked> {
    let mut linked = Linked::default();
    for link in &record.links {
        let Some(target) = house.store.get(&link.target) else {
            continue;
        };
        let target = target.record();
        if !target.endpoints.contains_key(NETWORK) {
            return Err(Error::internal(format!(
                "Cannot link to {}, as it does not belong to the default network",
                target.slash_name()
            )));
        }
        if !target.state.status.has_process() {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: {} AS {}/{}",
                target.slash_name(),
                record.slash_name(),
                link.alias
            )));
        }
        let endpoint = target.network.endpoints.get(NETWORK);
        let endpoint = endpoint.ok_or_else(|| {
            let id = target.id;
            Error::internal(format!(
                "container {id} not attached to default bridge network"
            ))
        })?;
        let address = endpoint.ip_address.clone();
        linked
            .env
            .extend(variables(record, link, &target, &address));
        let mut names = vec![link.alias.clone(), target.config.hostname.clone()];
        if target.name != link.alias {
            names.push(target.name.clone());
        }
        linked.hosts.push(LinkedHost {
            target: target.id,
            address,
            names,
        });
    }
    Ok(linked)
}

/// A port as `(number, protocol)`, in Docker's order: by number, TCP first.
fn ports(target: &Record) -> Vec<(u16, String)> {
    let mut ports: Vec<(u16, String)> = target
        .config
        .exposed_ports
        .keys()
        .filter_map(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol.to_owned()))
        })
        .collect();
    ports.sort_by(|left, right| {
        let key = |port: &(u16, String)| (port.0, port.1 != "tcp", port.1.clone());
        key(left).cmp(&key(right))
    });
    ports
}

fn variables(record: &Record, link: &Link, target: &Record, address: &str) -> Vec<String> {
    let prefix = link.alias.to_uppercase().replace('-', "_");
    let mut env = vec![format!(
        "{prefix}_NAME={}/{}",
        record.slash_name(),
        link.alias
    )];
    let ports = ports(target);
    if let Some((number, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    for (number, protocol) in &ports {
        let name = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        env.push(format!("{name}={protocol}://{address}:{number}"));
        env.push(format!("{name}_ADDR={address}"));
        env.push(format!("{name}_PORT={number}"));
        env.push(format!("{name}_PROTO={protocol}"));
    }
    let own = target
        .config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='));
    let own = own.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
    env.extend(own.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
    env
}

/// The names that containers have by links to them, `/PARENT/ALIAS`.
pub fn names(house: &House) -> BTreeMap<ContainerId, Vec<String>> {
    let mut names: BTreeMap<ContainerId, Vec<String>> = BTreeMap::new();
    for container in house.store.all() {
        let record = container.record();
        for link in &record.links {
            let name = format!("{}/{}", record.slash_name(), link.alias);
            names.entry(link.target).or_default().push(name);
        }
    }
    names
}

/// How `inspect` shows the links of a container.
pub fn shown(house: &House, record: &Record) -> Option<Vec<String>> {
    if record.links.is_empty() {
        return record.host_config.links.clone();
    }
    let links = record.links.iter().filter_map(|link| {
        let target = house.store.get(&link.target)?.record().slash_name();
        Some(format!("{target}:{}/{}", record.slash_name(), link.alias))
    });
    Some(links.collect())
}

/// Writes the new address of a container into the files of those that link to it.
pub fn tell(house: &Arc<House>, record: &Record) {
    let Some(endpoint) = record.network.endpoints.get(NETWORK) else {
        return;
    };
    let (house, id, address) = (Arc::clone(house), record.id, endpoint.ip_address.clone());
    // Nobody waits for it.
    drop(tokio::spawn(blocking(move || {
        for container in house.store.linking() {
            let parent = container.record();
            let links = parent.links.iter().any(|link| link.target == id);
            if links && parent.state.status.has_process() {
                move_hosts(&house, &container, &id, &address);
            }
        }
        Ok(())
    })));
}

fn move_hosts(house: &House, container: &Container, target: &ContainerId, address: &str) {
    let files = EtcFiles::new(&house.directory(&container.id));
    let mut old = Vec::new();
    let record = container.change(|record| {
        for host in &mut record.linked.hosts {
            if host.target == *target && host.address != address {
                old.push(std::mem::replace(&mut host.address, address.to_owned()));
            }
        }
    });
    if old.is_empty() {
        return;
    }
    let moved = record
        .linked
        .hosts
        .iter()
        .filter(|host| host.target == *target);
    let lines: Vec<OwnAddress> = moved.map(line).collect();
    if let Err(error) = rewrite(&files.hosts(), &lines) {
        tracing::warn!(id = %container.id, %error, "a link leads to an old address");
    }
}

fn line(host: &LinkedHost) -> OwnAddress {
    OwnAddress {
        address: host.address.clone(),
        names: host.names.clone(),
    }
}

fn rewrite(path: &Path, lines: &[OwnAddress]) -> std::io::Result<()> {
    for line in lines {
        files::replace_names(path, line)?;
    }
    Ok(())
}

/// The lines of `/etc/hosts` for the links of a container.
pub fn lines(record: &Record) -> Vec<OwnAddress> {
    record.linked.hosts.iter().map(line).collect()
}

/// Removes a link by `PARENT/ALIAS` (`rm --link`).
///
/// # Errors
/// Docker's: no such container, no such link.
pub fn remove(house: &House, name: &str) -> Result<()> {
    let (parent, alias) = name
        .trim_start_matches('/')
        .rsplit_once('/')
        .ok_or_else(|| Error::invalid(format!("Cannot get parent / for link name /{name}")))?;
    let container = house.store.find(parent)?;
    if !container
        .record()
        .links
        .iter()
        .any(|link| link.alias == alias)
    {
        return Err(Error::not_found(format!("No such link: /{parent}/{alias}")));
    }
    let changed = house.store.change(&container, |record| {
        record.links.retain(|link| link.alias != alias)
    });
    changed.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_docker_reads_them() {
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("db:store").unwrap(), ("db", "store"));
        assert_eq!(parse("/db:/web/store").unwrap(), ("db", "store"));
        for (text, want) in [
            ("", "empty string specified for links"),
            ("a:b:c", "bad format for links: a:b:c"),
            ("a:", "bad format for links: a:"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), want);
        }
    }
}
