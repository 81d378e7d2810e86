//! The expressions of nf_tables rules as netlink attributes (`linux/netfilter/nf_tables.h`).

use crate::netlink::Messages;

use super::ruleset::{Family, Field, Side, Verdict};

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_F_SADDR: u32 = 1;
const FIB_F_DADDR: u32 = 2;
const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;
const CHECKSUM_INET: u32 = 1;
const UDP: u8 = 17;

/// The register that takes verdicts.
const VERDICT: u32 = 0;
/// The first of sixteen registers of four bytes.
const FIRST: u32 = 8;

/// Adds an expression to the open list of a rule.
fn expression(rule: &mut Messages, name: &str, fill: impl FnOnce(&mut Messages)) {
    rule.nested(LIST_ELEM, |element| {
        element.put_str(EXPR_NAME, name).nested(EXPR_DATA, fill);
    });
}

fn value(data: &mut Messages, kind: u16, bytes: &[u8]) {
    data.nested(kind, |data| {
        data.put(DATA_VALUE, bytes);
    });
}

/// Loads a field into the register `slot` places after the first; answers how many places it takes.
pub fn load(rule: &mut Messages, family: Family, field: Field, slot: u32) -> u32 {
    let register = FIRST + slot;
    let (source, destination, length) = match family {
        Family::Ip => (12, 16, 4),
        Family::Ip6 => (8, 24, 16),
    };
    match field {
        Field::InputInterface => meta(rule, META_IIFNAME, register, 16),
        Field::OutputInterface => meta(rule, META_OIFNAME, register, 16),
        Field::Protocol => meta(rule, META_L4PROTO, register, 1),
        Field::Source => payload(rule, (PAYLOAD_NETWORK, source, length), register),
        Field::Destination => payload(rule, (PAYLOAD_NETWORK, destination, length), register),
        Field::DestinationPort => payload(rule, (PAYLOAD_TRANSPORT, 2, 2), register),
    }
}

fn meta(rule: &mut Messages, key: u32, register: u32, length: u32) -> u32 {
    expression(rule, "meta", |data| {
        data.put_be32(1, register).put_be32(2, key);
    });
    length.div_ceil(4)
}

fn payload(rule: &mut Messages, (base, offset, length): (u32, u32, u32), register: u32) -> u32 {
    expression(rule, "payload", |data| {
        data.put_be32(1, register)
            .put_be32(2, base)
            .put_be32(3, offset)
            .put_be32(4, length);
    });
    length.div_ceil(4)
}

/// Where the ports are in the headers of TCP, UDP and SCTP.
fn offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

/// Loads a port into the first register.
pub fn load_port(rule: &mut Messages, side: Side) {
    payload(rule, (PAYLOAD_TRANSPORT, offset(side), 2), FIRST);
}

/// Overwrites a port of a TCP or UDP header and corrects its checksum.
pub fn set_port(rule: &mut Messages, protocol: u8, side: Side, port: u16) {
    let checksum = if protocol == UDP { 6 } else { 16 };
    expression(rule, "immediate", |data| {
        data.put_be32(1, FIRST);
        value(data, 2, &port.to_be_bytes());
    });
    expression(rule, "payload", |data| {
        data.put_be32(2, PAYLOAD_TRANSPORT)
            .put_be32(3, offset(side))
            .put_be32(4, 2)
            .put_be32(5, FIRST)
            .put_be32(6, CHECKSUM_INET)
            .put_be32(7, checksum);
    });
}

/// Compares the first register.
pub fn compare(rule: &mut Messages, not: bool, bytes: &[u8]) {
    expression(rule, "cmp", |data| {
        data.put_be32(1, FIRST)
            .put_be32(2, if not { CMP_NEQ } else { CMP_EQ });
        value(data, 3, bytes);
    });
}

/// Keeps the masked bits of the first register.
pub fn mask(rule: &mut Messages, bits: &[u8]) {
    expression(rule, "bitwise", |data| {
        data.put_be32(1, FIRST)
            .put_be32(2, FIRST)
            .put_be32(3, bits.len() as u32);
        value(data, 4, bits);
        value(data, 5, &vec![0; bits.len()]);
    });
}

/// Asks whether the key in the first registers is in a set.
pub fn contained(rule: &mut Messages, set: &str, not: bool) {
    expression(rule, "lookup", |data| {
        data.put_str(1, set).put_be32(2, FIRST);
        if not {
            data.put_be32(5, 1);
        }
    });
}

/// Goes on with the verdict that a map has for the key in the first registers.
pub fn verdict_of(rule: &mut Messages, map: &str) {
    expression(rule, "lookup", |data| {
        data.put_str(1, map).put_be32(2, FIRST).put_be32(3, VERDICT);
    });
}

/// Loads what a map has for the key in the first registers there.
pub fn look_up(rule: &mut Messages, map: &str) {
    expression(rule, "lookup", |data| {
        data.put_str(1, map).put_be32(2, FIRST).put_be32(3, FIRST);
    });
}

/// The number of an address family in `nat` expressions.
fn number(family: Family) -> u32 {
    match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

/// Translates the destination to the address in the first registers and the port in the next one.
pub fn destination(rule: &mut Messages, family: Family) {
    let places = match family {
        Family::Ip => 1,
        Family::Ip6 => 4,
    };
    expression(rule, "nat", |data| {
        data.put_be32(1, NAT_DNAT)
            .put_be32(2, number(family))
            .put_be32(3, FIRST)
            .put_be32(5, FIRST + places);
    });
}

/// Translates the source to an address.
pub fn source(rule: &mut Messages, family: Family, address: &[u8]) {
    expression(rule, "immediate", |data| {
        data.put_be32(1, FIRST);
        value(data, 2, address);
    });
    expression(rule, "nat", |data| {
        data.put_be32(1, NAT_SNAT)
            .put_be32(2, number(family))
            .put_be32(3, FIRST);
    });
}

/// Translates the source to the address of the interface that the packet leaves by.
pub fn masquerade(rule: &mut Messages) {
    expression(rule, "masq", |_| ());
}

/// Sends a copy of the packet to a neighbour on an interface.
pub fn send_copy(rule: &mut Messages, next_hop: &[u8], interface: u32) {
    let second = FIRST + 4;
    expression(rule, "immediate", |data| {
        data.put_be32(1, FIRST);
        value(data, 2, next_hop);
    });
    expression(rule, "immediate", |data| {
        data.put_be32(1, second);
        value(data, 2, &interface.to_ne_bytes());
    });
    expression(rule, "dup", |data| {
        data.put_be32(1, FIRST).put_be32(2, second);
    });
}

/// Counts packets and bytes.
pub fn counter(rule: &mut Messages) {
    expression(rule, "counter", |_| ());
}

/// Loads the type of the destination address (`RTN_*`).
pub fn destination_type(rule: &mut Messages) {
    address_type(rule, FIB_F_DADDR);
}

/// Loads the type of the source address (`RTN_*`).
pub fn source_type(rule: &mut Messages) {
    address_type(rule, FIB_F_SADDR);
}

fn address_type(rule: &mut Messages, which: u32) {
    expression(rule, "fib", |data| {
        data.put_be32(1, FIRST)
            .put_be32(2, FIB_RESULT_ADDRTYPE)
            .put_be32(3, which);
    });
}

/// Goes on only when the connection's state has one of these bits.
pub fn connection_state(rule: &mut Messages, bits: u32) {
    connection(rule, CT_STATE, bits);
}

/// Goes on only when the connection's status has one of these bits.
pub fn connection_status(rule: &mut Messages, bits: u32) {
    connection(rule, CT_STATUS, bits);
}

fn connection(rule: &mut Messages, key: u32, bits: u32) {
    expression(rule, "ct", |data| {
        data.put_be32(1, FIRST).put_be32(2, key);
    });
    mask(rule, &bits.to_ne_bytes());
    compare(rule, true, &[0; 4]);
}

/// Ends the rule.
pub fn verdict(rule: &mut Messages, verdict: &Verdict) {
    expression(rule, "immediate", |data| {
        data.put_be32(1, VERDICT)
            .nested(2, |data| verdict_data(data, verdict));
    });
}

/// A verdict as data.
pub fn verdict_data(data: &mut Messages, verdict: &Verdict) {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Drop => (0, None),
        Verdict::Return => (-5, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    data.nested(DATA_VERDICT, |data| {
        data.put_be32(VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            data.put_str(VERDICT_CHAIN, chain);
        }
    });
}
