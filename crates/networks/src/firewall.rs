//! The rules of all networks as one rule set. `docs` of each rule are here; the words are in `nft`.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::nft::{
    Atom, Chain, Change, DataType, Element, Family, Field, Hook, HookKind, HookPoint, Outcome,
    RuleSet, Set, SetValue, Statement, Verdict, rule,
};

/// Ports published on one host address.
const PUBLISHED: &str = "published";
/// Ports published on all host addresses.
const PUBLISHED_ANYWHERE: &str = "published-anywhere";

/// What the firewall must know of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRules {
    /// Interface name.
    pub bridge: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Whether its traffic leaves under the host's address.
    pub masquerade: bool,
    /// Whether nothing but its own traffic may cross it.
    pub internal: bool,
    /// Whether its containers may talk to each other.
    pub icc: bool,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRule {
    /// Transport protocol number.
    pub protocol: u8,
    /// Host address; the unspecified one stands for all.
    pub address: IpAddr,
    /// Host port.
    pub port: u16,
    /// The container's address.
    pub target: IpAddr,
    /// The container's port.
    pub target_port: u16,
}

impl PortRule {
    fn place(&self) -> (&'static str, Element) {
        let (protocol, port) = (Atom::Protocol(self.protocol), Atom::Port(self.port));
        let data = vec![Atom::Address(self.target), Atom::Port(self.target_port)];
        let (set, key) = if self.address.is_unspecified() {
            (PUBLISHED_ANYWHERE, vec![protocol, port])
        } else {
            (PUBLISHED, vec![Atom::Address(self.address), protocol, port])
        };
        let element = Element {
            key,
            last: None,
            outcome: Outcome::Data(data),
        };
        (set, element)
    }
}

/// The changes that bring ports in or take them out.
pub fn port_changes(ports: &[PortRule], add: bool) -> Vec<Change> {
    [PUBLISHED, PUBLISHED_ANYWHERE]
        .into_iter()
        .filter_map(|set| {
            let elements = elements_of(ports, set);
            (!elements.is_empty()).then_some(if add {
                Change::Add { set, elements }
            } else {
                Change::Remove { set, elements }
            })
        })
        .collect()
}

fn elements_of(ports: &[PortRule], set: &str) -> Vec<Element> {
    let placed = ports.iter().map(PortRule::place);
    placed
        .filter(|(place, _)| *place == set)
        .map(|(_, element)| element)
        .collect()
}

/// The whole IPv4 table.
pub fn rule_set(table: &str, bridges: &[BridgeRules], ports: &[PortRule]) -> RuleSet {
    let mut chains = vec![
        raw(),
        translate("prerouting"),
        translate("output"),
        forward(),
    ];
    chains.push(postrouting());
    for bridge in bridges {
        chains.extend(bridge_chains(bridge));
    }
    RuleSet {
        family: Family::Ip,
        table: table.to_owned(),
        sets: sets(bridges, ports),
        chains,
    }
}

fn sets(bridges: &[BridgeRules], ports: &[PortRule]) -> Vec<Set> {
    let target = SetValue::Data(vec![DataType::Ipv4, DataType::Port]);
    let published = |name: &str, key: Vec<DataType>| Set {
        name: name.to_owned(),
        key,
        value: target.clone(),
        interval: false,
        elements: elements_of(ports, name),
    };
    let by_bridge = |name: &str, internal_only: bool| Set {
        name: name.to_owned(),
        key: vec![DataType::Interface],
        value: SetValue::Verdict,
        interval: false,
        elements: bridges
            .iter()
            .filter(|bridge| bridge.internal || !internal_only)
            .map(|bridge| Element {
                key: vec![Atom::Interface(bridge.bridge.clone())],
                last: None,
                outcome: Outcome::Verdict(Verdict::Jump(format!("{name}-{}", bridge.bridge))),
            })
            .collect(),
    };
    vec![
        published(
            PUBLISHED,
            vec![DataType::Ipv4, DataType::Protocol, DataType::Port],
        ),
        published(PUBLISHED_ANYWHERE, vec![DataType::Protocol, DataType::Port]),
        by_bridge("to", false),
        by_bridge("from", true),
        sources(bridges),
    ]
}

/// Which chain handles what leaves, by source: a range per subnet.
fn sources(bridges: &[BridgeRules]) -> Set {
    let mut bridges: Vec<_> = bridges.iter().collect();
    bridges.sort_by_key(|bridge| bridge.subnet);
    let elements = bridges.iter().map(|bridge| Element {
        key: vec![Atom::Address(bridge.subnet.network().into())],
        last: Some(vec![Atom::Address(bridge.subnet.broadcast().into())]),
        outcome: Outcome::Verdict(Verdict::Jump(format!("leaving-{}", bridge.bridge))),
    });
    Set {
        name: "leaving".to_owned(),
        key: vec![DataType::Ipv4],
        value: SetValue::Verdict,
        interval: true,
        elements: elements.collect(),
    }
}

fn base(name: &str, kind: HookKind, point: HookPoint, priority: i32) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: Some(Hook {
            kind,
            point,
            priority,
        }),
        rules: Vec::new(),
    }
}

/// Loopback addresses never come from a link: bridges have route_localnet on, and the destination of a port published on
/// 127.0.0.1 would be translated before the kernel drops the packet as a martian (moby#45610).
fn raw() -> Chain {
    let loopback = IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8));
    let from_link = || Statement::input("lo", true);
    let drop = || Statement::Verdict(Verdict::Drop);
    Chain {
        rules: vec![
            rule([from_link(), Statement::to(loopback), drop()]),
            rule([from_link(), Statement::from(loopback), drop()]),
        ],
        ..base("raw", HookKind::Filter, HookPoint::Prerouting, -300)
    }
}

/// Published ports, for packets that come in (`prerouting`) and those the host sends itself (`output`).
fn translate(name: &str) -> Chain {
    let point = if name == "output" {
        HookPoint::Output
    } else {
        HookPoint::Prerouting
    };
    let map = |fields: Vec<Field>, map: &str| Statement::DestinationMap {
        fields,
        map: map.to_owned(),
    };
    let one = vec![Field::Destination, Field::Protocol, Field::DestinationPort];
    let any = vec![Field::Protocol, Field::DestinationPort];
    Chain {
        rules: vec![
            rule([Statement::DestinationIsLocal, map(one, PUBLISHED)]),
            rule([Statement::DestinationIsLocal, map(any, PUBLISHED_ANYWHERE)]),
        ],
        ..base(name, HookKind::Nat, point, -100)
    }
}

fn forward() -> Chain {
    let map = |field: Field, map: &str| Statement::VerdictMap {
        fields: vec![field],
        map: map.to_owned(),
    };
    Chain {
        rules: vec![
            rule([map(Field::InputInterface, "from")]),
            rule([map(Field::OutputInterface, "to")]),
        ],
        ..base("forward", HookKind::Filter, HookPoint::Forward, 0)
    }
}

fn postrouting() -> Chain {
    let fields = vec![Field::Source];
    let map = "leaving".to_owned();
    let host = IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8));
    Chain {
        rules: vec![
            // The host talks to a port published on loopback: the container must have somebody to answer.
            rule([
                Statement::from(host),
                Statement::output("lo", true),
                Statement::Translated,
                Statement::Masquerade,
            ]),
            rule([Statement::VerdictMap { fields, map }]),
        ],
        ..base("postrouting", HookKind::Nat, HookPoint::Postrouting, 100)
    }
}

fn bridge_chains(bridge: &BridgeRules) -> Vec<Chain> {
    let name = bridge.bridge.as_str();
    let accept = || Statement::Verdict(Verdict::Accept);
    let drop = || Statement::Verdict(Verdict::Drop);
    let chain = |kind: &str, rules| Chain {
        name: format!("{kind}-{name}"),
        hook: None,
        rules,
    };
    // To the bridge: answers, published ports, neighbours; nothing else, so that an unpublished port is not reachable by
    // routing through the host.
    let mut to = vec![rule([Statement::Established, accept()])];
    let mut chains = Vec::new();
    if bridge.internal {
        let leaves = rule([Statement::output(name, true), Statement::Counter, drop()]);
        chains.push(chain("from", vec![leaves]));
    } else {
        to.push(rule([Statement::Translated, accept()]));
    }
    let neighbours = if bridge.icc { accept() } else { drop() };
    to.push(rule([Statement::input(name, false), neighbours]));
    to.push(rule([Statement::Counter, drop()]));
    // A container that reaches itself or a neighbour through a published port must be answered through the host.
    let mut leaving = vec![rule([
        Statement::output(name, false),
        Statement::Translated,
        Statement::Masquerade,
    ])];
    if bridge.masquerade && !bridge.internal {
        leaving.push(rule([Statement::output(name, true), Statement::Masquerade]));
    }
    chains.push(chain("to", to));
    chains.push(chain("leaving", leaving));
    chains
}
