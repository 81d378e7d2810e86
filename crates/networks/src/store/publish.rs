//! Published ports of sandboxes: host ports taken, rules for them, and what clients see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use cais_sys::failpoint;
use cais_types::ContainerId;

use crate::bridge;
use crate::error::NetworkError;
use crate::firewall::{BridgeRules, Entry, FamilyRules, PortRule, Source, port_changes};
use crate::netlink::{Messages, Socket, link};
use crate::ports::{self, PublishedPort, Taken, Wish};

use super::records::{BridgeRecord, EndpointRecord, GatewayMode, NetworkRecord, SandboxRecord};
use super::sandboxes::{PortBinding, PortRequest};
use super::{State, Store};

/// Where published ports of one family lead.
struct Target {
    /// Id of the endpoint.
    endpoint: String,
    /// The container's address.
    address: IpAddr,
    entry: Entry,
    /// Host address of ports that name none.
    binding: Option<Ipv4Addr>,
    /// Whether some interfaces may reach the container's own address.
    trusts: bool,
}

fn entry(network: &NetworkRecord, ipv6: bool) -> Entry {
    let Some(bridge) = &network.bridge else {
        return Entry::Published;
    };
    let mode = if ipv6 {
        bridge.gateway_mode_ipv6
    } else {
        bridge.gateway_mode_ipv4
    };
    match mode {
        GatewayMode::Nat | GatewayMode::Isolated => Entry::Published,
        GatewayMode::NatUnprotected => Entry::Everything,
        GatewayMode::Routed => Entry::Routed,
    }
}

impl NetworkRecord {
    /// What the firewall must know of it, if it is a bridge.
    pub(super) fn rules(&self) -> Option<BridgeRules> {
        let bridge = self.bridge.as_ref()?;
        let families = self.pools.iter().map(|pool| {
            let ipv6 = pool.subnet.addr().is_ipv6();
            let entry = entry(self, ipv6);
            FamilyRules {
                subnet: pool.subnet,
                source: if bridge.masquerade && entry != Entry::Routed {
                    bridge.source(ipv6)
                } else {
                    Source::Kept
                },
                entry,
            }
        });
        Some(BridgeRules {
            bridge: bridge.name.clone(),
            families: families.collect(),
            internal: self.internal,
            icc: bridge.icc,
            trusted: bridge.trusted_interfaces.clone(),
        })
    }
}

impl BridgeRecord {
    /// Where translated packets seem to come from.
    fn source(&self, ipv6: bool) -> Source {
        let four = self.host_ipv4.filter(|_| !ipv6).map(IpAddr::V4);
        let six = self.host_ipv6.filter(|_| ipv6).map(IpAddr::V6);
        four.or(six).map_or(Source::OfInterface, Source::Fixed)
    }
}

impl State {
    /// Where published ports lead: to the endpoints with the default routes, so nowhere from internal networks.
    fn targets(&self, record: &SandboxRecord) -> Vec<Target> {
        let (four, six) = record.gateways();
        let four = four.and_then(|one| Some((one, IpAddr::V4(one.address?))));
        let six = six.and_then(|one| Some((one, IpAddr::V6(one.address_v6?))));
        let target = |(endpoint, address): (&EndpointRecord, IpAddr)| {
            let network = &self.networks.get(&endpoint.network)?.record;
            let bridge = network.bridge.as_ref()?;
            Some(Target {
                endpoint: endpoint.id.clone(),
                address,
                entry: entry(network, address.is_ipv6()),
                binding: bridge.host_binding,
                trusts: !bridge.trusted_interfaces.is_empty(),
            })
        };
        [four, six]
            .into_iter()
            .flatten()
            .filter_map(target)
            .collect()
    }

    /// The firewall's view of the published ports of a sandbox.
    pub(super) fn port_rules(&self, record: &SandboxRecord) -> Vec<PortRule> {
        let targets = self.targets(record);
        let rule = |port: &PublishedPort| {
            let mut fitting = targets.iter();
            let six = port.address.is_ipv6();
            let target = fitting.find(|target| target.address.is_ipv6() == six)?;
            let routed = target.entry == Entry::Routed;
            Some(PortRule {
                protocol: port.protocol.number(),
                host: (!routed).then(|| SocketAddr::new(port.address, port.port)),
                target: SocketAddr::new(target.address, port.container_port),
                direct: routed || target.trusts,
            })
        };
        record.ports.iter().filter_map(rule).collect()
    }

    /// Ports that containers have, but for those of one, as far as wishes may come to them.
    fn taken(&self, but: Option<&ContainerId>, wishes: &[Wish]) -> Vec<Taken> {
        let others = self.sandboxes.iter().filter(|(id, _)| Some(*id) != but);
        let closing = self.closing.iter().map(|held| &held.record);
        let records = others.map(|(_, held)| &held.record).chain(closing);
        let near = |port: &&PublishedPort| wishes.iter().any(|wish| wish.may_take(port));
        let of = |record: &'_ SandboxRecord| {
            let ports = record.ports.iter().filter(near).map(|port| Taken {
                port: *port,
                owner: record.name.clone(),
            });
            ports.collect::<Vec<_>>()
        };
        records.flat_map(of).collect()
    }
}

/// A published port with the socket that holds it.
pub(super) type Reserved = (PublishedPort, Option<OwnedFd>);

impl Store {
    /// Takes the host ports for wishes; the record and the state are not changed but for the place of the next search.
    pub(super) fn publish(
        &self,
        state: &mut State,
        wishes: &[Wish],
        (container, record): (&ContainerId, &SandboxRecord),
    ) -> Result<Vec<Reserved>, NetworkError> {
        let targets = state.targets(record);
        let Some(first) = targets.first().filter(|_| !wishes.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut taken = state.taken(Some(container), wishes);
        taken.extend(record.ports.iter().map(|port| Taken {
            port: *port,
            owner: record.name.clone(),
        }));
        let mut reserved: Vec<Reserved> = Vec::new();
        for wish in wishes {
            let got = self.publish_one(wish, &targets, &taken, state.port_hint);
            let got = got.map_err(|source| NetworkError::Publish {
                name: record.name.clone(),
                id: first.endpoint.clone(),
                source: Box::new(source),
            })?;
            if let (true, Some((port, _))) = (wish.any_port(), got.last()) {
                state.port_hint = port.port.wrapping_add(1);
            }
            taken.extend(got.iter().map(|(port, _)| Taken {
                port: *port,
                owner: record.name.clone(),
            }));
            reserved.extend(got);
        }
        Ok(reserved)
    }

    fn publish_one(
        &self,
        wish: &Wish,
        targets: &[Target],
        taken: &[Taken],
        hint: u16,
    ) -> Result<Vec<Reserved>, NetworkError> {
        let default = self.config.publish_address;
        let mut addresses = Vec::new();
        let mut reserved = Vec::new();
        for target in targets {
            let six = target.address.is_ipv6();
            let address = match (wish.address, six) {
                (Some(address), _) => address,
                (None, false) if target.binding.is_some() => {
                    target.binding.map_or(default, IpAddr::V4)
                }
                (None, true) if default == IpAddr::from([0; 4]) => [0_u16; 8].into(),
                (None, _) => default,
            };
            if address.is_ipv6() != six {
                continue;
            }
            if target.entry == Entry::Routed {
                let port = PublishedPort {
                    protocol: wish.protocol,
                    address,
                    port: 0,
                    container_port: wish.container_port,
                };
                reserved.push((port, None));
            } else {
                addresses.push(address);
            }
        }
        if let (true, true, Some(address)) =
            (addresses.is_empty(), reserved.is_empty(), wish.address)
        {
            let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
            let port = wish.container_port;
            let text =
                format!("cannot publish port {port} on {address}: the network has no {family}");
            return Err(NetworkError::Unsupported(text));
        }
        if !addresses.is_empty() {
            reserved.extend(ports::reserve(wish, &addresses, taken, hint)?);
        }
        Ok(reserved)
    }

    /// Brings what a running container publishes in line with what is wanted of it, in one transaction: all of it or
    /// nothing. Ports that fit a wish stay as they are, but for those named in `remove`: by container port, and by host
    /// address and port where those are not empty. Ports that fit none are taken back, and wishes without a port get one
    /// where a network leads out. Answers what is published then.
    pub fn republish(
        &self,
        container: &ContainerId,
        wanted: &[PortRequest],
        remove: &[PortRequest],
    ) -> Result<BTreeMap<String, Vec<PortBinding>>, NetworkError> {
        let wishes = wishes(wanted)?;
        let mut state = self.lock();
        self.follow_bridge_filter(&mut state)?;
        let Some(held) = state.sandboxes.get(container) else {
            return Ok(BTreeMap::new());
        };
        let before = held.record.clone();
        let mut after = before.clone();
        take_back(&mut after, remove)?;
        let missing = claim(&mut after.ports, wishes);
        let reserved = self.publish(&mut state, &missing, (container, &after))?;
        after.ports.extend(reserved.iter().map(|(port, _)| *port));
        if after.ports == before.ports {
            return Ok(shown(&after.ports));
        }
        failpoint::reach("publish-reserved");
        let (old, new) = (state.port_rules(&before), state.port_rules(&after));
        if before.ports.is_empty() {
            self.open_ports(&state, &after)?;
        }
        self.keep(container, &after)?;
        failpoint::reach("publish-recorded");
        let changes = port_changes(&old, &new, &self.policy);
        if let Err(error) = self.change(&changes) {
            self.keep(container, &before)?;
            return Err(error);
        }
        failpoint::reach("publish-changed");
        if let Some(held) = state.sandboxes.get_mut(container) {
            held.sockets.retain(|(port, _)| after.ports.contains(port));
            held.sockets.extend(sockets(reserved));
            held.record = after.clone();
            held.rules = new;
        }
        Ok(shown(&after.ports))
    }

    /// Lets the bridges treat the interfaces of a container as those of one that publishes ports.
    fn open_ports(&self, state: &State, record: &SandboxRecord) -> Result<(), NetworkError> {
        let mut batch = Messages::new();
        for endpoint in &record.endpoints {
            let network = state.networks.get(&endpoint.network);
            let bridge = network.and_then(|network| network.record.bridge.as_ref());
            if let Some(bridge) = bridge {
                let mode = bridge::port_mode(bridge.icc, true);
                link::port_up(&mut batch, &endpoint.veth, mode);
            }
        }
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        socket
            .run(&mut batch)
            .map_err(NetworkError::during("bridge port"))
    }
}

/// Takes out what is named.
fn take_back(record: &mut SandboxRecord, remove: &[PortRequest]) -> Result<(), NetworkError> {
    for request in remove {
        let (number, protocol) = ports::container_port(&request.container_port)?;
        let fits = |port: &PublishedPort, binding: &PortBinding| {
            let host_port = port.port.to_string();
            (binding.host_ip.is_empty() || binding.host_ip == port.address.to_string())
                && (binding.host_port.is_empty() || binding.host_port == host_port)
        };
        record.ports.retain(|port| {
            let same = port.container_port == number && port.protocol == protocol;
            let named = request.bindings.iter().any(|binding| fits(port, binding));
            !(same && (request.bindings.is_empty() || named))
        });
    }
    Ok(())
}

/// Leaves the ports that fit a wish, and answers the wishes that no port fits. The choosiest wish comes first; one port
/// number on several addresses is one wish's.
fn claim(published: &mut Vec<PublishedPort>, mut wishes: Vec<Wish>) -> Vec<Wish> {
    wishes.sort_by_key(|wish| (wish.address.is_none(), wish.breadth()));
    let mut claimed = vec![false; published.len()];
    wishes.retain(|wish| {
        let mut number = None;
        for (port, taken) in published.iter().zip(&mut claimed) {
            let one = number.unwrap_or(port.port) == port.port;
            if !*taken && one && wish.is_met_by(port) {
                (number, *taken) = (Some(port.port), true);
            }
        }
        number.is_none()
    });
    let mut claimed = claimed.into_iter();
    published.retain(|_| claimed.next().unwrap_or(false));
    wishes
}

/// The sockets of what was reserved.
pub(super) fn sockets(reserved: Vec<Reserved>) -> Vec<(PublishedPort, OwnedFd)> {
    let held = reserved.into_iter();
    held.filter_map(|(port, socket)| Some((port, socket?)))
        .collect()
}

/// Reads what is wanted.
pub(super) fn wishes(requests: &[PortRequest]) -> Result<Vec<Wish>, NetworkError> {
    let mut wishes = Vec::new();
    for port in requests {
        for binding in &port.bindings {
            let (address, number) = (&binding.host_ip, &binding.host_port);
            wishes.push(ports::wish(&port.container_port, address, number)?);
        }
    }
    Ok(wishes)
}

/// What `NetworkSettings.Ports` shows.
pub(super) fn shown(ports: &[PublishedPort]) -> BTreeMap<String, Vec<PortBinding>> {
    let mut map: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports {
        let key = format!("{}/{}", port.container_port, port.protocol.name());
        let number = Some(port.port).filter(|number| *number != 0);
        map.entry(key).or_default().push(PortBinding {
            host_ip: port.address.to_string(),
            host_port: number.map_or_else(String::new, |number| number.to_string()),
        });
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(ip: &str, port: &str) -> Wish {
        ports::wish("80/tcp", ip, port).unwrap()
    }

    fn ports(list: &[(&str, u16)]) -> Vec<PublishedPort> {
        let port = |(ip, port): &(&str, u16)| PublishedPort {
            protocol: ports::Protocol::Tcp,
            address: ip.parse().unwrap(),
            port: *port,
            container_port: 80,
        };
        list.iter().map(port).collect()
    }

    #[test]
    fn ports_stay_with_the_wishes_they_fit() {
        let all = [
            ("0.0.0.0", 32768),
            ("::", 32768),
            ("127.0.0.1", 32769),
            ("0.0.0.0", 8005),
            ("0.0.0.0", 8006),
            ("0.0.0.0", 0),
        ];
        for (wishes, stay, missing) in [
            (vec![], vec![], 0),
            (vec![wish("", "")], vec![0, 1], 0),
            (vec![wish("", ""), wish("127.0.0.1", "")], vec![0, 1, 2], 0),
            (vec![wish("127.0.0.1", ""), wish("::1", "")], vec![2], 1),
            (vec![wish("", "8000-8010"), wish("", "8005")], vec![3, 4], 0),
            (vec![wish("", "8006"), wish("", "8007")], vec![4, 5], 0),
            (vec![wish("", "9000-9001"); 2], vec![5], 1),
        ] {
            let mut published = ports(&all);
            let told = format!("{wishes:?}");
            assert_eq!(claim(&mut published, wishes).len(), missing, "{told}");
            let stay: Vec<_> = stay.iter().map(|index| ports(&all)[*index]).collect();
            assert_eq!(published, stay, "{told}");
        }
    }
}
