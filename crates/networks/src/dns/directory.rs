//! Who has which name on which network. Pure data: written when endpoints come and go, read for every question.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cais_types::{ContainerId, NetworkId};

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The container.
    pub container: ContainerId,
    /// Its names there; the first is the one that reverse look-ups answer.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
}

/// The addresses behind a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6.
    pub v6: Vec<Ipv6Addr>,
}

/// The names of all networks that have a resolver.
#[derive(Debug, Default)]
pub struct Directory {
    zones: HashMap<NetworkId, Zone>,
    views: HashMap<ContainerId, View>,
    /// What every container may ask for: names of the host.
    host: HashMap<String, Found>,
}

#[derive(Debug, Default)]
struct Zone {
    name: String,
    names: HashMap<String, Vec<(ContainerId, Found)>>,
    owners: HashMap<IpAddr, String>,
}

/// What one container sees.
#[derive(Debug, Default)]
struct View {
    /// In the order they are asked.
    networks: Vec<NetworkId>,
    /// Names that only this container has for others, from `--link`.
    links: HashMap<String, String>,
}

fn sort(addresses: &[IpAddr]) -> Found {
    let mut found = Found::default();
    for address in addresses {
        match address {
            IpAddr::V4(address) => found.v4.push(*address),
            IpAddr::V6(address) => found.v6.push(*address),
        }
    }
    found
}

impl Found {
    fn add(&mut self, other: &Self) {
        for address in &other.v4 {
            if !self.v4.contains(address) {
                self.v4.push(*address);
            }
        }
        for address in &other.v6 {
            if !self.v6.contains(address) {
                self.v6.push(*address);
            }
        }
    }
}

impl Directory {
    /// Names that lead to the host itself, whoever asks.
    pub fn set_host(&mut self, names: &[&str], addresses: &[IpAddr]) {
        let found = sort(addresses);
        self.host = names
            .iter()
            .map(|name| ((*name).to_owned(), found.clone()))
            .collect();
    }

    /// Puts a container on a network; one that is there already is replaced.
    pub fn join(&mut self, network: NetworkId, network_name: &str, member: &Member) {
        self.leave(&network, &member.container);
        let zone = self.zones.entry(network).or_default();
        network_name.clone_into(&mut zone.name);
        let found = sort(&member.addresses);
        for name in &member.names {
            let holders = zone.names.entry(name.to_ascii_lowercase()).or_default();
            if !holders
                .iter()
                .any(|(holder, _)| *holder == member.container)
            {
                holders.push((member.container, found.clone()));
            }
        }
        if let Some(first) = member.names.first() {
            for address in &member.addresses {
                zone.owners.insert(*address, first.clone());
            }
        }
        let view = self.views.entry(member.container).or_default();
        view.networks.push(network);
    }

    /// Names that this container alone has for others: alias to name.
    pub fn link(&mut self, container: ContainerId, links: &BTreeMap<String, String>) {
        let view = self.views.entry(container).or_default();
        view.links = links
            .iter()
            .map(|(alias, name)| (alias.to_ascii_lowercase(), name.clone()))
            .collect();
    }

    /// Takes a container off a network.
    pub fn leave(&mut self, network: &NetworkId, container: &ContainerId) {
        if let Some(view) = self.views.get_mut(container) {
            view.networks.retain(|one| one != network);
        }
        let Some(zone) = self.zones.get_mut(network) else {
            return;
        };
        let mut gone = Vec::new();
        zone.names.retain(|_, holders| {
            holders.retain(|(holder, found)| {
                let stays = holder != container;
                if !stays {
                    gone.push(found.clone());
                }
                stays
            });
            !holders.is_empty()
        });
        for found in gone {
            for address in found.v4 {
                zone.owners.remove(&address.into());
            }
            for address in found.v6 {
                zone.owners.remove(&address.into());
            }
        }
        if zone.names.is_empty() {
            self.zones.remove(network);
        }
    }

    /// Forgets a container.
    pub fn forget(&mut self, container: &ContainerId) {
        let networks = self.views.remove(container).map(|view| view.networks);
        for network in networks.into_iter().flatten() {
            self.leave(&network, container);
        }
    }

    /// What a name means to a container: `name`, or `name.network` of a network it is on. The first network that knows
    /// the name in the wanted family answers; when all know it in the other family only, that is answered.
    pub fn look_up(&self, container: &ContainerId, name: &str, six: bool) -> Option<Found> {
        let view = self.views.get(container);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let cuts = name.match_indices('.').map(|(at, _)| at).rev();
        let splits = cuts.map(|at| (&name[..at], Some(&name[at + 1..])));
        let mut other_family = None;
        for (host, network) in std::iter::once((name.as_str(), None)).chain(splits) {
            let Some(view) = view else { break };
            let aliased = view.links.get(host).map(|name| name.to_ascii_lowercase());
            let host = aliased.as_deref().unwrap_or(host);
            let zones = view.networks.iter().filter_map(|one| self.zones.get(one));
            for zone in zones {
                if network.is_some_and(|wanted| !zone.name.eq_ignore_ascii_case(wanted)) {
                    continue;
                }
                let Some(holders) = zone.names.get(host) else {
                    continue;
                };
                let mut found = Found::default();
                for (_, one) in holders {
                    found.add(one);
                }
                if (six && !found.v6.is_empty()) || (!six && !found.v4.is_empty()) {
                    return Some(found);
                }
                other_family.get_or_insert(found);
            }
        }
        other_family.or_else(|| self.host.get(&name).cloned())
    }

    /// The name of an address on a network that the container is on, as `name.network`.
    pub fn reverse(&self, container: &ContainerId, address: IpAddr) -> Option<String> {
        let view = self.views.get(container)?;
        let mut zones = view.networks.iter().filter_map(|one| self.zones.get(one));
        zones.find_map(|zone| {
            let name = zone.owners.get(&address)?;
            Some(format!("{name}.{}", zone.name))
        })
    }

    /// Whether nobody is on any network; for tests.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.views.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(number: u8) -> ContainerId {
        ContainerId::from_bytes([number; 32])
    }

    fn network(number: u8) -> NetworkId {
        NetworkId::from_bytes([number; 32])
    }

    fn member(number: u8, names: &[&str], addresses: &[&str]) -> Member {
        Member {
            container: container(number),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        }
    }

    fn v4(directory: &Directory, who: u8, name: &str) -> Option<Vec<String>> {
        let found = directory.look_up(&container(who), name, false)?;
        Some(found.v4.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_seen_through_shared_networks_only() {
        let mut directory = Directory::default();
        directory.join(
            network(1),
            "front",
            &member(1, &["web", "www"], &["10.1.0.2"]),
        );
        directory.join(network(1), "front", &member(2, &["app"], &["10.1.0.3"]));
        directory.join(network(2), "back.end", &member(2, &["app"], &["10.2.0.3"]));
        directory.join(network(2), "back.end", &member(3, &["db"], &["10.2.0.4"]));
        assert_eq!(v4(&directory, 1, "WWW."), Some(vec!["10.1.0.2".into()]));
        assert_eq!(v4(&directory, 1, "db"), None);
        assert_eq!(v4(&directory, 2, "db"), Some(vec!["10.2.0.4".into()]));
        assert_eq!(
            v4(&directory, 2, "db.back.end"),
            Some(vec!["10.2.0.4".into()])
        );
        assert_eq!(v4(&directory, 1, "db.back.end"), None);
        assert_eq!(v4(&directory, 2, "db.front"), None);
        let address = "10.2.0.4".parse().unwrap();
        let name = directory.reverse(&container(2), address);
        assert_eq!(name.as_deref(), Some("db.back.end"));
        assert_eq!(directory.reverse(&container(1), address), None);
        directory.forget(&container(3));
        assert_eq!(v4(&directory, 2, "db"), None);
        assert_eq!(directory.reverse(&container(2), address), None);
        directory.leave(&network(1), &container(2));
        assert_eq!(v4(&directory, 2, "web"), None);
        directory.forget(&container(1));
        directory.forget(&container(2));
        assert!(directory.is_empty());
    }

    #[test]
    fn services_have_several_addresses_and_links_belong_to_one_container() {
        let mut directory = Directory::default();
        for number in 1..=3 {
            let address = format!("10.1.0.{number}");
            let name = format!("app-{number}");
            directory.join(
                network(1),
                "n",
                &member(number, &[&name, "app"], &[&address]),
            );
        }
        assert_eq!(v4(&directory, 1, "app").unwrap().len(), 3);
        directory.link(
            container(1),
            &[("other".to_owned(), "app-2".to_owned())].into(),
        );
        assert_eq!(v4(&directory, 1, "other"), Some(vec!["10.1.0.2".into()]));
        assert_eq!(v4(&directory, 3, "other"), None);
    }

    #[test]
    fn the_other_family_is_known_but_empty() {
        let mut directory = Directory::default();
        directory.join(network(1), "n", &member(1, &["four"], &["10.1.0.2"]));
        directory.join(network(1), "n", &member(2, &["six"], &["fd00::2"]));
        let four = directory.look_up(&container(1), "four", true).unwrap();
        assert!(four.v6.is_empty());
        assert_eq!(v4(&directory, 1, "six"), Some(vec![]));
        assert!(directory.look_up(&container(1), "none", true).is_none());
        directory.set_host(&["host.docker.internal"], &["172.17.0.1".parse().unwrap()]);
        let host = v4(&directory, 9, "host.docker.internal");
        assert_eq!(host, Some(vec!["172.17.0.1".into()]));
    }
}
