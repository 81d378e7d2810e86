//! The rules of all networks as rule sets, one table per address family. What each rule is for is told here and in `chains`;
//! the words are in `nft`.

mod chains;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::nft::{
    Atom, Change, DataType, Element, Family, Outcome, RuleSet, Set, SetValue, Verdict,
};

/// Ports published on one host address.
const PUBLISHED: &str = "published";
/// Ports published on all host addresses.
const PUBLISHED_ANYWHERE: &str = "published-anywhere";
/// Ports that are open at the containers' own addresses.
const OPEN: &str = "open";
/// All bridges.
const BRIDGES: &str = "bridges";
/// In a firewall of the host's (see [`Policy`]): what of a published port passed the host's own rules.
const ADMITTED: &str = "admitted";
const ADMITTED_ANYWHERE: &str = "admitted-anywhere";

/// Which packets from outside a bridge's containers get, besides answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Those that were translated to a published port.
    Published,
    /// Those, and all that come to a container's own address.
    Everything,
    /// Those to published ports at a container's own address; nothing is translated.
    Routed,
}

/// Under which source address packets leave a bridge for elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Their own.
    Kept,
    /// That of the interface they leave by.
    OfInterface,
    /// One of the host's.
    Fixed(IpAddr),
}

/// What the firewall must know of one address family of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyRules {
    /// Its subnet.
    pub subnet: IpNet,
    /// The source of what leaves.
    pub source: Source,
    /// What comes in.
    pub entry: Entry,
}

/// What the firewall must know of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRules {
    /// Interface name.
    pub bridge: String,
    /// Its subnets.
    pub families: Vec<FamilyRules>,
    /// Whether nothing but its own traffic may cross it.
    pub internal: bool,
    /// Whether its containers may talk to each other.
    pub icc: bool,
    /// Interfaces from which published ports are reached at the containers' own addresses.
    pub trusted: Vec<String>,
}

impl BridgeRules {
    fn of(&self, family: Family) -> Option<&FamilyRules> {
        let mut families = self.families.iter();
        families.find(|one| family_of(one.subnet.addr()) == family)
    }
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRule {
    /// Transport protocol number.
    pub protocol: u8,
    /// Where it is at the host, translated; the unspecified address stands for all.
    pub host: Option<SocketAddr>,
    /// The container's address and port.
    pub target: SocketAddr,
    /// Whether it is open at the container's own address as well.
    pub direct: bool,
}

/// What holds for the whole daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The interface on which packets to published ports come back when the host's own input rules have let them pass
    /// (`--publish-firewall=host`).
    pub admission: Option<Admission>,
    /// Whether bridged IPv6 frames pass the rules (br_netfilter); the store knows how it is just now.
    pub filters_bridged_v6: bool,
}

/// A pair of interfaces that leads packets from the end of the host's input rules back to their beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Where packets are sent.
    pub out: String,
    /// Its interface number.
    pub out_index: u32,
    /// Where they come in again.
    pub back: String,
}

/// The family of an address.
pub fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ip,
        IpAddr::V6(_) => Family::Ip6,
    }
}

fn address_type(family: Family) -> DataType {
    match family {
        Family::Ip => DataType::Ipv4,
        Family::Ip6 => DataType::Ipv6,
    }
}

impl PortRule {
    fn family(&self) -> Family {
        family_of(self.target.ip())
    }

    fn elements(&self, policy: &Policy) -> Vec<(&'static str, Element)> {
        let element = |key, outcome| Element {
            key,
            last: None,
            outcome,
        };
        let mut found = Vec::new();
        let protocol = || Atom::Protocol(self.protocol);
        let address = |address: SocketAddr| Atom::Address(address.ip());
        let port = |address: SocketAddr| Atom::Port(address.port());
        if let Some(host) = self.host {
            let data = Outcome::Data(vec![address(self.target), port(self.target)]);
            let anywhere = host.ip().is_unspecified();
            let key = if anywhere {
                vec![protocol(), port(host)]
            } else {
                vec![address(host), protocol(), port(host)]
            };
            let (translated, admitted) = if anywhere {
                (PUBLISHED_ANYWHERE, ADMITTED_ANYWHERE)
            } else {
                (PUBLISHED, ADMITTED)
            };
            if policy.admission.is_some() {
                let verdict = Outcome::Verdict(Verdict::Goto(chains::ADMIT.to_owned()));
                found.push((admitted, element(key.clone(), verdict)));
            }
            found.push((translated, element(key, data)));
        }
        if self.direct {
            let key = vec![address(self.target), protocol(), port(self.target)];
            found.push((OPEN, element(key, Outcome::None)));
        }
        found
    }
}

/// The elements of one set of one table, each once.
fn elements_of(ports: &[PortRule], policy: &Policy, (family, set): (Family, &str)) -> Vec<Element> {
    let mut found: Vec<Element> = Vec::new();
    for rule in ports.iter().filter(|rule| rule.family() == family) {
        for (place, element) in rule.elements(policy) {
            if place == set && !(set == OPEN && found.contains(&element)) {
                found.push(element);
            }
        }
    }
    found
}

const PORT_SETS: [&str; 5] = [
    PUBLISHED,
    PUBLISHED_ANYWHERE,
    OPEN,
    ADMITTED,
    ADMITTED_ANYWHERE,
];

/// The changes that lead from some published ports to others.
pub fn port_changes(before: &[PortRule], after: &[PortRule], policy: &Policy) -> Vec<Change> {
    let mut changes = Vec::new();
    for add in [false, true] {
        let (from, to) = if add {
            (before, after)
        } else {
            (after, before)
        };
        for family in [Family::Ip, Family::Ip6] {
            for set in PORT_SETS {
                let stay = elements_of(from, policy, (family, set));
                let mut elements = elements_of(to, policy, (family, set));
                if !stay.is_empty() {
                    elements.retain(|one| !stay.contains(one));
                }
                if !elements.is_empty() {
                    changes.push(Change {
                        family,
                        set,
                        elements,
                        add,
                    });
                }
            }
        }
    }
    changes
}

/// Which tables there are: that of IPv4 always, that of IPv6 when a bridge has it.
pub fn families(bridges: &[BridgeRules]) -> Vec<Family> {
    let has_six = bridges.iter().any(|one| one.of(Family::Ip6).is_some());
    let families = [Some(Family::Ip), has_six.then_some(Family::Ip6)];
    families.into_iter().flatten().collect()
}

/// The whole tables.
pub fn rule_sets(
    table: &str,
    bridges: &[BridgeRules],
    ports: &[PortRule],
    policy: &Policy,
) -> Vec<RuleSet> {
    let rule_set = |family| {
        let bridges: Vec<_> = bridges
            .iter()
            .filter_map(|bridge| Some((bridge, *bridge.of(family)?)))
            .collect();
        let mut sets = port_sets(family, ports, policy);
        sets.extend(bridge_sets(family, &bridges));
        RuleSet {
            family,
            table: table.to_owned(),
            sets,
            chains: chains::all(family, &bridges, policy),
        }
    };
    families(bridges).into_iter().map(rule_set).collect()
}

fn port_sets(family: Family, ports: &[PortRule], policy: &Policy) -> Vec<Set> {
    let address = address_type(family);
    let one = vec![address, DataType::Protocol, DataType::Port];
    let any = vec![DataType::Protocol, DataType::Port];
    let target = SetValue::Data(vec![address, DataType::Port]);
    let set = |name: &'static str, key: &Vec<DataType>, value: SetValue| Set {
        name: name.to_owned(),
        key: key.clone(),
        value,
        interval: false,
        elements: elements_of(ports, policy, (family, name)),
    };
    let mut sets = vec![
        set(PUBLISHED, &one, target.clone()),
        set(PUBLISHED_ANYWHERE, &any, target),
        set(OPEN, &one, SetValue::None),
    ];
    if policy.admission.is_some() {
        sets.push(set(ADMITTED, &one, SetValue::Verdict));
        sets.push(set(ADMITTED_ANYWHERE, &any, SetValue::Verdict));
    }
    sets
}

/// Which chain handles what goes to a bridge, comes from one, and leaves one by its source.
fn bridge_sets(family: Family, bridges: &[(&BridgeRules, FamilyRules)]) -> Vec<Set> {
    let by_bridge = |name: &str, internal_only: bool| Set {
        name: name.to_owned(),
        key: vec![DataType::Interface],
        value: SetValue::Verdict,
        interval: false,
        elements: bridges
            .iter()
            .filter(|(bridge, _)| bridge.internal || !internal_only)
            .map(|(bridge, _)| Element {
                key: vec![Atom::Interface(bridge.bridge.clone())],
                last: None,
                outcome: Outcome::Verdict(Verdict::Jump(format!("{name}-{}", bridge.bridge))),
            })
            .collect(),
    };
    let mut sorted: Vec<_> = bridges.iter().collect();
    sorted.sort_by_key(|(_, rules)| rules.subnet);
    let sources = sorted.iter().map(|(bridge, rules)| Element {
        key: vec![Atom::Address(rules.subnet.network())],
        last: Some(vec![Atom::Address(rules.subnet.broadcast())]),
        outcome: Outcome::Verdict(Verdict::Jump(format!("leaving-{}", bridge.bridge))),
    });
    let leaving = Set {
        name: "leaving".to_owned(),
        key: vec![address_type(family)],
        value: SetValue::Verdict,
        interval: true,
        elements: sources.collect(),
    };
    let mut sets = vec![by_bridge("to", false), by_bridge("from", true), leaving];
    let open = |(_, rules): &(&BridgeRules, FamilyRules)| rules.entry == Entry::Everything;
    if bridges.iter().any(open) {
        sets.push(Set {
            name: BRIDGES.to_owned(),
            key: vec![DataType::Interface],
            value: SetValue::None,
            interval: false,
            elements: bridges
                .iter()
                .map(|(bridge, _)| Element {
                    key: vec![Atom::Interface(bridge.bridge.clone())],
                    last: None,
                    outcome: Outcome::None,
                })
                .collect(),
        });
    }
    sets
}
