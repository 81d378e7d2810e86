//! The chains of a table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::nft::{Atom, Chain, Family, Field, Hook, HookKind, HookPoint, Statement, Verdict, rule};

use super::{
    ADMITTED, ADMITTED_ANYWHERE, Admission, BRIDGES, BridgeRules, Entry, FamilyRules, OPEN,
    PUBLISHED, PUBLISHED_ANYWHERE, Policy, Source,
};

/// Where packets go that passed the host's own input rules.
pub(super) const ADMIT: &str = "admit";
/// Where new connections to addresses of the host go.
const TRANSLATE: &str = "translate";

/// ICMP and ICMPv6.
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// Behind every input rule of the host, before the kernel confirms the connection (`NF_IP6_PRI_LAST - 1`).
const LAST: i32 = i32::MAX - 2;

/// All chains of one family.
pub(super) fn all(
    family: Family,
    bridges: &[(&BridgeRules, FamilyRules)],
    policy: &Policy,
) -> Vec<Chain> {
    let admission = policy.admission.as_ref();
    let mut chains = vec![
        raw(family),
        incoming(admission),
        outgoing(family, policy),
        translate(),
        forward(),
        postrouting(family),
    ];
    if let Some(admission) = admission {
        chains.extend(admit(family, admission));
    }
    for (bridge, rules) in bridges {
        chains.extend(bridge_chains(family, bridge, rules));
    }
    chains
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

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ip => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::Ip6 => Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    }
}

fn accept() -> Statement {
    Statement::Verdict(Verdict::Accept)
}

fn drop() -> Statement {
    Statement::Verdict(Verdict::Drop)
}

/// Loopback addresses never come from a link: bridges have route_localnet on, and the destination of a port published on
/// 127.0.0.1 would be translated before the kernel drops the packet as a martian (moby#45610). Every packet comes here: addresses
/// are compared faster than names.
fn raw(family: Family) -> Chain {
    let loopback = loopback(family);
    let from_link = || Statement::input("lo", true);
    Chain {
        rules: vec![
            rule([Statement::to(loopback), from_link(), drop()]),
            rule([Statement::from(loopback), from_link(), drop()]),
        ],
        ..base("raw", HookKind::Filter, HookPoint::Prerouting, -300)
    }
}

/// The maps of published ports. A port is never in both; most are published on all addresses.
fn translate() -> Chain {
    let map = |fields: Vec<Field>, map: &str| {
        let map = map.to_owned();
        rule([Statement::DestinationMap { fields, map }])
    };
    let one = vec![Field::Destination, Field::Protocol, Field::DestinationPort];
    let any = vec![Field::Protocol, Field::DestinationPort];
    Chain {
        name: TRANSLATE.to_owned(),
        hook: None,
        rules: vec![map(any, PUBLISHED_ANYWHERE), map(one, PUBLISHED)],
    }
}

/// Looks the published ports up for packets to addresses of the host.
fn translated(condition: Option<Statement>) -> Vec<Vec<Statement>> {
    let go = Statement::Verdict(Verdict::Goto(TRANSLATE.to_owned()));
    let words = condition.into_iter();
    vec![words.chain([Statement::DestinationIsLocal, go]).collect()]
}

/// Published ports, for packets that come in: where the host's own input rules decide, only those that passed them.
fn incoming(admission: Option<&Admission>) -> Chain {
    let condition = admission.map(|admission| Statement::input(&admission.back, false));
    Chain {
        rules: translated(condition),
        ..base("prerouting", HookKind::Nat, HookPoint::Prerouting, -100)
    }
}

/// Published ports, for packets that the host sends itself. Where bridged frames pass the rules, an answer to ::1 is
/// turned back to it while it is on the bridge, and the kernel drops it then (RFC 4291 2.5.3).
fn outgoing(family: Family, policy: &Policy) -> Chain {
    let loses_answers = family == Family::Ip6 && policy.filters_bridged_v6;
    let condition = loses_answers.then(|| Statement::In {
        field: Field::Destination,
        not: true,
        net: loopback(family),
    });
    Chain {
        rules: translated(condition),
        ..base("output", HookKind::Nat, HookPoint::Output, -100)
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

fn postrouting(family: Family) -> Chain {
    let fields = vec![Field::Source];
    let map = "leaving".to_owned();
    // The host talks to a port published on loopback: the container must have somebody to answer.
    let of_host = rule([
        Statement::from(loopback(family)),
        Statement::output("lo", true),
        Statement::Translated,
        Statement::Masquerade,
    ]);
    Chain {
        rules: vec![of_host, rule([Statement::VerdictMap { fields, map }])],
        ..base("postrouting", HookKind::Nat, HookPoint::Postrouting, 100)
    }
}

/// At the end of the host's input rules: who is still here may reach a published port. The packet is sent once more, over
/// the pair of interfaces, and then translated; later packets of the connection follow by connection tracking.
fn admit(family: Family, admission: &Admission) -> Vec<Chain> {
    let map = |fields: Vec<Field>, map: &str| {
        let map = map.to_owned();
        rule([
            Statement::New,
            Statement::DestinationIsLocal,
            Statement::VerdictMap { fields, map },
        ])
    };
    let one = vec![Field::Destination, Field::Protocol, Field::DestinationPort];
    let any = vec![Field::Protocol, Field::DestinationPort];
    let local = rule([Statement::input("lo", false), accept()]);
    // Came back and was not translated: its port has just been taken back. It must not go round again.
    let astray = rule([Statement::input(&admission.back, false), drop()]);
    vec![
        Chain {
            rules: vec![
                local,
                astray,
                map(one, ADMITTED),
                map(any, ADMITTED_ANYWHERE),
            ],
            ..base("input", HookKind::Filter, HookPoint::Input, LAST)
        },
        Chain {
            name: ADMIT.to_owned(),
            hook: None,
            rules: vec![rule([
                Statement::SendCopy {
                    next_hop: next_hop(family),
                    interface: admission.out.clone(),
                    index: admission.out_index,
                },
                drop(),
            ])],
        },
    ]
}

fn bridge_chains(family: Family, bridge: &BridgeRules, rules: &FamilyRules) -> Vec<Chain> {
    let name = bridge.bridge.as_str();
    let chain = |kind: &str, rules| Chain {
        name: format!("{kind}-{name}"),
        hook: None,
        rules,
    };
    let mut chains = Vec::new();
    if bridge.internal {
        let leaves = rule([Statement::output(name, true), Statement::Counter, drop()]);
        chains.push(chain("from", vec![leaves]));
    }
    chains.push(chain("to", to_bridge(family, bridge, rules)));
    // A container that reaches itself or a neighbour through a published port must be answered through the host. The host
    // itself is answered as it is, which spares each of its connections a second translation.
    let mut leaving = vec![rule([
        Statement::output(name, false),
        Statement::Translated,
        Statement::SourceIsElsewhere,
        Statement::Masquerade,
    ])];
    let translated = match rules.source {
        Source::Kept => None,
        Source::OfInterface => Some(Statement::Masquerade),
        Source::Fixed(address) => Some(Statement::Source(address)),
    };
    if let Some(translated) = translated.filter(|_| !bridge.internal) {
        leaving.push(rule([Statement::output(name, true), translated]));
    }
    chains.push(chain("leaving", leaving));
    chains
}

/// To the bridge: answers, neighbours, and what its entry lets in; nothing else, so that an unpublished port is not
/// reachable by routing through the host.
fn to_bridge(family: Family, bridge: &BridgeRules, rules: &FamilyRules) -> Vec<Vec<Statement>> {
    let name = bridge.bridge.as_str();
    let neighbours = if bridge.icc { accept() } else { drop() };
    let mut list = vec![rule([Statement::Established, accept()])];
    let nat = rules.entry != Entry::Routed;
    if !bridge.internal && nat {
        list.push(rule([Statement::Translated, accept()]));
    }
    list.push(rule([Statement::input(name, false), neighbours]));
    if bridge.internal {
        list.push(rule([Statement::Counter, drop()]));
        return list;
    }
    let open = || Statement::InSet {
        fields: vec![Field::Destination, Field::Protocol, Field::DestinationPort],
        not: false,
        set: OPEN.to_owned(),
    };
    for trusted in &bridge.trusted {
        list.push(rule([Statement::input(trusted, false), open(), accept()]));
    }
    match rules.entry {
        Entry::Published => {}
        Entry::Everything => {
            // Other bridges stay apart.
            let outside = Statement::InSet {
                fields: vec![Field::InputInterface],
                not: true,
                set: BRIDGES.to_owned(),
            };
            list.push(rule([outside, accept()]));
        }
        Entry::Routed => {
            let echo = match family {
                Family::Ip => ICMP,
                Family::Ip6 => ICMP_V6,
            };
            list.push(rule([open(), accept()]));
            list.push(rule([
                Statement::Is {
                    field: Field::Protocol,
                    not: false,
                    value: Atom::Protocol(echo),
                },
                accept(),
            ]));
        }
    }
    list.push(rule([Statement::Counter, drop()]));
    list
}

/// A neighbour on the pair of interfaces that leads back; nobody has the address, and nobody is asked for it.
fn next_hop(family: Family) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::new(169, 254, 254, 1).into(),
        Family::Ip6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}
