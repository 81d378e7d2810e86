//! Rule sets and changes as nf_tables requests.

use std::net::IpAddr;

use crate::netlink::route::octets;
use crate::netlink::{APPEND, CREATE, Messages};

use super::expression as expr;
use super::ruleset::{
    Atom, Chain, DataType, Element, Family, Field, HookKind, HookPoint, Outcome, RuleSet, Set,
    SetValue, Statement,
};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(super) const NEWTABLE: u16 = 0;
pub(super) const GETTABLE: u16 = 1;
pub(super) const DELTABLE: u16 = 2;
pub(super) const NEWCHAIN: u16 = 3;
pub(super) const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
pub(super) const NEWSET: u16 = 9;
pub(super) const GETSET: u16 = 10;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

pub(super) const SET_ANONYMOUS: u32 = 0x1;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCAT: u32 = 0x80;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
const ELEM_INTERVAL_END: u32 = 1;

const STATE_ESTABLISHED_OR_RELATED: u32 = 0x2 | 0x4;
const STATE_NEW: u32 = 0x8;
const STATUS_DESTINATION_NAT: u32 = 0x20;
const RTN_LOCAL: u32 = 2;

/// User data by which `nft` knows that keys are in host byte order (libnftnl `NFTNL_UDATA_SET_KEYBYTEORDER`).
const HOST_ORDER_KEY: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// Elements of one request fit into the 16-bit length of an attribute.
const ELEMENTS_ROOM: usize = 48 * 1024;

impl Family {
    /// `NFPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }
}

impl DataType {
    /// The number that `nft` knows the type by, and its length in bytes.
    fn number_and_length(self) -> (u32, usize) {
        match self {
            Self::Ipv4 => (7, 4),
            Self::Ipv6 => (8, 16),
            Self::Protocol => (12, 1),
            Self::Port => (13, 2),
            Self::Interface => (41, 16),
        }
    }
}

impl Atom {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Address(address) => octets(*address),
            Self::Protocol(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Interface(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                bytes
            }
        }
    }
}

/// The request type of an nf_tables message.
pub(super) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// The fixed header of an nf_tables message.
pub(super) fn header(family: Family) -> [u8; 4] {
    [family.number(), 0, 0, 0]
}

/// Begins a transaction.
pub(super) fn begin(batch: &mut Messages) {
    batch.begin(BATCH_BEGIN, 0, &[0, 0, 0, SUBSYSTEM as u8]);
}

/// Ends a transaction.
pub(super) fn end(batch: &mut Messages) {
    batch.begin(BATCH_END, 0, &[0, 0, 0, SUBSYSTEM as u8]);
}

/// Makes the table if it is missing.
pub(super) fn table(batch: &mut Messages, family: Family, name: &str) {
    batch
        .begin(kind(NEWTABLE), CREATE, &header(family))
        .put_str(1, name)
        .put_be32(2, 0);
}

/// Removes the table and everything in it.
pub(super) fn drop_table(batch: &mut Messages, family: Family, name: &str) {
    batch
        .begin(kind(DELTABLE), 0, &header(family))
        .put_str(1, name);
}

/// Removes all rules of the table, but no chain and no set.
pub(super) fn flush_rules(batch: &mut Messages, family: Family, table: &str) {
    batch
        .begin(kind(DELRULE), 0, &header(family))
        .put_str(1, table);
}

/// Removes all elements of a set or map.
pub(super) fn flush_set(batch: &mut Messages, place: (Family, &str), set: &str) {
    removal(batch, DELSETELEM, place, (2, set));
}

/// Removes a chain that nothing leads to.
pub(super) fn drop_chain(batch: &mut Messages, place: (Family, &str), chain: &str) {
    removal(batch, DELCHAIN, place, (3, chain));
}

/// Removes a set or map that no rule asks.
pub(super) fn drop_set(batch: &mut Messages, place: (Family, &str), set: &str) {
    removal(batch, DELSET, place, (2, set));
}

/// A request about something in a table that has a name, in this attribute.
fn removal(
    batch: &mut Messages,
    message: u16,
    (family, table): (Family, &str),
    (attribute, name): (u16, &str),
) {
    batch
        .begin(kind(message), 0, &header(family))
        .put_str(1, table)
        .put_str(attribute, name);
}

/// The whole rule set, for a table that is not there, or whose chains and sets of the same names are the same and empty.
pub(super) fn rule_set(batch: &mut Messages, rules: &RuleSet) {
    table(batch, rules.family, &rules.table);
    for chain in &rules.chains {
        new_chain(batch, rules, chain);
    }
    for (number, set) in rules.sets.iter().enumerate() {
        new_set(batch, rules, set, number as u32 + 1);
        elements(
            batch,
            (rules.family, &rules.table),
            &set.name,
            &set.elements,
            true,
        );
    }
    for chain in &rules.chains {
        for statements in &chain.rules {
            new_rule(batch, rules, &chain.name, statements);
        }
    }
}

fn new_chain(batch: &mut Messages, rules: &RuleSet, chain: &Chain) {
    batch
        .begin(kind(NEWCHAIN), CREATE, &header(rules.family))
        .put_str(1, &rules.table)
        .put_str(3, &chain.name);
    let Some(hook) = chain.hook else { return };
    let point = match hook.point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    };
    let name = match hook.kind {
        HookKind::Filter => "filter",
        HookKind::Nat => "nat",
    };
    batch
        .nested(4, |data| {
            data.put_be32(1, point)
                .put_be32(2, hook.priority.cast_unsigned());
        })
        .put_be32(5, 1)
        .put_str(7, name);
}

/// The `nft` number of a concatenation and its padded length.
fn shape(parts: &[DataType]) -> (u32, u32) {
    if let [part] = parts {
        let (number, length) = part.number_and_length();
        return (number, length as u32);
    }
    parts.iter().fold((0, 0), |(numbers, total), part| {
        let (number, length) = part.number_and_length();
        (
            numbers << 6 | number,
            total + length.next_multiple_of(4) as u32,
        )
    })
}

fn new_set(batch: &mut Messages, rules: &RuleSet, set: &Set, number: u32) {
    let (key_type, key_length) = shape(&set.key);
    let concatenated = set.key.len() > 1;
    let mut flags = 0;
    if set.interval {
        flags |= SET_INTERVAL;
    }
    if concatenated {
        flags |= SET_CONCAT;
    }
    if set.value != SetValue::None {
        flags |= SET_MAP;
    }
    batch
        .begin(kind(NEWSET), CREATE, &header(rules.family))
        .put_str(1, &rules.table)
        .put_str(2, &set.name)
        .put_be32(3, flags)
        .put_be32(4, key_type)
        .put_be32(5, key_length)
        .put_be32(10, number);
    match &set.value {
        SetValue::None => {}
        SetValue::Verdict => {
            batch.put_be32(6, DATA_TYPE_VERDICT).put_be32(7, 0);
        }
        SetValue::Data(parts) => {
            let (data_type, length) = shape(parts);
            batch.put_be32(6, data_type).put_be32(7, length);
        }
    }
    if set.key == [DataType::Interface] {
        batch.put(13, &HOST_ORDER_KEY);
    }
    if concatenated {
        batch.nested(9, |description| {
            description.nested(2, |fields| {
                for part in &set.key {
                    let (_, length) = part.number_and_length();
                    fields.nested(1, |field| {
                        field.put_be32(1, length as u32);
                    });
                }
            });
        });
    }
}

/// Adds elements to a set or takes them out, in as many requests as their number needs.
pub(super) fn elements(
    batch: &mut Messages,
    (family, table): (Family, &str),
    set: &str,
    elements: &[Element],
    add: bool,
) {
    let message = if add { NEWSETELEM } else { DELSETELEM };
    let flags = if add { CREATE } else { 0 };
    let mut rest = elements.iter().peekable();
    while rest.peek().is_some() {
        batch
            .begin(kind(message), flags, &header(family))
            .put_str(1, table)
            .put_str(2, set)
            .nested(3, |list| {
                while list.open_len() < ELEMENTS_ROOM {
                    let Some(element) = rest.next() else { break };
                    new_element(list, element);
                }
            });
    }
}

fn joined(parts: &[Atom]) -> Vec<u8> {
    if let [part] = parts {
        return part.bytes();
    }
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(part.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn new_element(list: &mut Messages, element: &Element) {
    let key = joined(&element.key);
    list.nested(1, |item| {
        put_data(item, 1, &key);
        match &element.outcome {
            Outcome::None => {}
            Outcome::Data(parts) => put_data(item, 2, &joined(parts)),
            Outcome::Verdict(verdict) => {
                item.nested(2, |data| expr::verdict_data(data, verdict));
            }
        }
        if let (Some(last), true) = (&element.last, element.key.len() > 1) {
            put_data(item, 10, &joined(last));
        }
    });
    if let (Some(last), 1) = (&element.last, element.key.len())
        && let Some(end) = successor(joined(last))
    {
        list.nested(1, |item| {
            put_data(item, 1, &end);
            item.put_be32(3, ELEM_INTERVAL_END);
        });
    }
}

/// The key behind the last one of a range; `None` when the range reaches the end of all keys.
fn successor(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(key);
        }
    }
    None
}

fn put_data(item: &mut Messages, kind: u16, bytes: &[u8]) {
    item.nested(kind, |data| {
        data.put(1, bytes);
    });
}

fn new_rule(batch: &mut Messages, rules: &RuleSet, chain: &str, statements: &[Statement]) {
    batch
        .begin(kind(NEWRULE), CREATE | APPEND, &header(rules.family))
        .put_str(1, &rules.table)
        .put_str(2, chain)
        .nested(4, |list| {
            for statement in statements {
                add_statement(list, rules.family, statement);
            }
        });
}

fn load_all(list: &mut Messages, family: Family, fields: &[Field]) {
    let mut slot = 0;
    for field in fields {
        slot += expr::load(list, family, *field, slot);
    }
}

fn add_statement(list: &mut Messages, family: Family, statement: &Statement) {
    match statement {
        Statement::Is { field, not, value } => {
            expr::load(list, family, *field, 0);
            expr::compare(list, *not, &value.bytes());
        }
        Statement::In { field, not, net } => {
            expr::load(list, family, *field, 0);
            expr::mask(list, &octets(net.netmask()));
            let network: IpAddr = net.network();
            expr::compare(list, *not, &octets(network));
        }
        Statement::InSet { fields, not, set } => {
            load_all(list, family, fields);
            expr::contained(list, set, *not);
        }
        Statement::DestinationIsLocal => {
            expr::destination_type(list);
            expr::compare(list, false, &RTN_LOCAL.to_ne_bytes());
        }
        Statement::SourceIsElsewhere => {
            expr::source_type(list);
            expr::compare(list, true, &RTN_LOCAL.to_ne_bytes());
        }
        Statement::Established => expr::connection_state(list, STATE_ESTABLISHED_OR_RELATED),
        Statement::New => expr::connection_state(list, STATE_NEW),
        Statement::SendCopy {
            next_hop, index, ..
        } => expr::send_copy(list, &octets(*next_hop), *index),
        Statement::Translated => expr::connection_status(list, STATUS_DESTINATION_NAT),
        Statement::VerdictMap { fields, map } => {
            load_all(list, family, fields);
            expr::verdict_of(list, map);
        }
        Statement::DestinationMap { fields, map } => {
            load_all(list, family, fields);
            expr::look_up(list, map);
            expr::destination(list, family);
        }
        Statement::Masquerade => expr::masquerade(list),
        Statement::Source(address) => expr::source(list, family, &octets(*address)),
        Statement::Port {
            protocol,
            side,
            port,
        } => {
            expr::load(list, family, Field::Protocol, 0);
            expr::compare(list, false, &[*protocol]);
            expr::load_port(list, *side);
            expr::compare(list, false, &port.to_be_bytes());
        }
        Statement::SetPort {
            protocol,
            side,
            port,
        } => expr::set_port(list, *protocol, *side, *port),
        Statement::Counter => expr::counter(list),
        Statement::Verdict(verdict) => expr::verdict(list, verdict),
    }
}
