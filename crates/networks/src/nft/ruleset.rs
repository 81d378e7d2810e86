//! The words rule sets are written in.

use std::net::IpAddr;

use ipnet::IpNet;

/// The address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// One table with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Address family of the table.
    pub family: Family,
    /// Table name.
    pub table: String,
    /// Sets and maps; may name chains in their verdicts.
    pub sets: Vec<Set>,
    /// Chains; their rules may name sets and chains.
    pub chains: Vec<Chain>,
}

/// A set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name within the table.
    pub name: String,
    /// The parts of a key; more than one makes a concatenation.
    pub key: Vec<DataType>,
    /// What a key leads to.
    pub value: SetValue,
    /// Whether keys may be ranges.
    pub interval: bool,
    /// What is in it at first.
    pub elements: Vec<Element>,
}

/// What the keys of a set lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// Nothing: a plain set.
    None,
    /// Data, concatenated when there is more than one part.
    Data(Vec<DataType>),
    /// A verdict: a verdict map.
    Verdict,
}

/// The type of a part of a key or of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol number.
    Protocol,
    /// A port.
    Port,
    /// An interface name.
    Interface,
}

/// One part of a key or of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// An address.
    Address(IpAddr),
    /// A transport protocol number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// An interface name.
    Interface(String),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key, or the first key of a range.
    pub key: Vec<Atom>,
    /// The last key of a range.
    pub last: Option<Vec<Atom>>,
    /// What it leads to.
    pub outcome: Outcome,
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    None,
    /// Data.
    Data(Vec<Atom>),
    /// A verdict.
    Verdict(Verdict),
}

/// What happens to a packet next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this hook's chain.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Another chain, and back.
    Jump(String),
    /// Another chain, and not back.
    Goto(String),
}

/// A list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name within the table.
    pub name: String,
    /// Where packets enter it; `None` for chains that are jumped to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Vec<Statement>>,
}

/// Where a base chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Filter or NAT.
    pub kind: HookKind,
    /// Which point of the packet's way.
    pub point: HookPoint,
    /// Lower runs first.
    pub priority: i32,
}

/// The kind of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection.
    Nat,
}

/// The points of a packet's way through the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// To the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// After routing.
    Postrouting,
}

/// What a packet is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Input interface name.
    InputInterface,
    /// Output interface name.
    OutputInterface,
    /// Transport protocol.
    Protocol,
    /// Source address.
    Source,
    /// Destination address.
    Destination,
    /// Destination port of any transport.
    DestinationPort,
}

/// One of the two ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// One part of a rule. Matches that fail end the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The field is (or with `not`, is not) this value.
    Is {
        /// What is asked.
        field: Field,
        /// Turned around.
        not: bool,
        /// The value.
        value: Atom,
    },
    /// The address field is (or is not) in this network.
    In {
        /// Source or destination.
        field: Field,
        /// Turned around.
        not: bool,
        /// The network.
        net: IpNet,
    },
    /// The fields together are (or are not) a key of the set.
    InSet {
        /// The parts of the key.
        fields: Vec<Field>,
        /// Turned around.
        not: bool,
        /// The set's name.
        set: String,
    },
    /// The destination is an address of this host.
    DestinationIsLocal,
    /// The source is no address of this host.
    SourceIsElsewhere,
    /// The connection is established or related to one that is.
    Established,
    /// The packet is the first of a connection.
    New,
    /// The connection's destination was translated.
    Translated,
    /// The verdict that the map has for the fields; on to the next rule when it has none.
    VerdictMap {
        /// The parts of the key.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// Destination translated to the address and port that the map has for the fields.
    DestinationMap {
        /// The parts of the key.
        fields: Vec<Field>,
        /// The map's name; its value is an address and a port.
        map: String,
    },
    /// Source translated to the address of the interface it leaves by.
    Masquerade,
    /// Source translated to an address.
    Source(IpAddr),
    /// The packet is of this transport protocol, and from or to this port.
    Port {
        /// Transport protocol number.
        protocol: u8,
        /// Which of its ports.
        side: Side,
        /// The port.
        port: u16,
    },
    /// A port is overwritten, without connection tracking. Comes behind a [`Statement::Port`] of the protocol.
    SetPort {
        /// Transport protocol number: TCP or UDP.
        protocol: u8,
        /// Which of its ports.
        side: Side,
        /// The new port.
        port: u16,
    },
    /// A copy of the packet is sent by another interface.
    SendCopy {
        /// A neighbour there.
        next_hop: IpAddr,
        /// Interface name.
        interface: String,
        /// Interface number.
        index: u32,
    },
    /// Packets and bytes are counted.
    Counter,
    /// The end of the rule.
    Verdict(Verdict),
}

/// A rule, for lists of rules that read like `nft` input.
pub fn rule(statements: impl IntoIterator<Item = Statement>) -> Vec<Statement> {
    statements.into_iter().collect()
}

impl Statement {
    /// `iifname NAME`, or `iifname != NAME`.
    pub fn input(name: &str, not: bool) -> Self {
        let (field, value) = (Field::InputInterface, Atom::Interface(name.to_owned()));
        Self::Is { field, not, value }
    }

    /// `oifname NAME`, or `oifname != NAME`.
    pub fn output(name: &str, not: bool) -> Self {
        let (field, value) = (Field::OutputInterface, Atom::Interface(name.to_owned()));
        Self::Is { field, not, value }
    }

    /// `ip saddr NET`.
    pub fn from(net: IpNet) -> Self {
        let field = Field::Source;
        Self::In {
            field,
            not: false,
            net,
        }
    }

    /// `ip daddr NET`.
    pub fn to(net: IpNet) -> Self {
        let field = Field::Destination;
        Self::In {
            field,
            not: false,
            net,
        }
    }

    /// `jump CHAIN`.
    pub fn jump(chain: &str) -> Self {
        Self::Verdict(Verdict::Jump(chain.to_owned()))
    }
}
