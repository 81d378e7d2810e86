//! Rule sets as `nft list ruleset` prints them.

use std::fmt::{self, Display, Formatter, Write};
use std::net::IpAddr;

use ipnet::IpNet;

use super::ruleset::{
    Atom, Chain, DataType, Element, Family, Field, Hook, HookKind, HookPoint, Outcome, RuleSet,
    Set, SetValue, Side, Statement, Verdict,
};

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

impl Display for RuleSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.table)?;
        for (index, set) in self.sets.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            write!(f, "{between}{set}")?;
        }
        for (index, chain) in self.chains.iter().enumerate() {
            let first = index == 0 && self.sets.is_empty();
            f.write_str(if first { "" } else { "\n" })?;
            print_chain(f, self.family, chain)?;
        }
        writeln!(f, "}}")
    }
}

impl Display for DataType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Interface => "ifname",
        })
    }
}

impl Display for Atom {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Protocol(6) => f.write_str("tcp"),
            Self::Protocol(17) => f.write_str("udp"),
            Self::Protocol(132) => f.write_str("sctp"),
            Self::Protocol(1) => f.write_str("icmp"),
            Self::Protocol(58) => f.write_str("ipv6-icmp"),
            Self::Protocol(number) => write!(f, "{number}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Interface(name) => write!(f, "\"{name}\""),
        }
    }
}

impl Display for Side {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "sport",
            Self::Destination => "dport",
        })
    }
}

fn dotted<T: Display>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    parts.join(" . ")
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.value == SetValue::None {
            "set"
        } else {
            "map"
        };
        writeln!(f, "\t{word} {} {{", self.name)?;
        write!(f, "\t\ttype {}", dotted(&self.key))?;
        match &self.value {
            SetValue::None => writeln!(f)?,
            SetValue::Data(parts) => writeln!(f, " : {}", dotted(parts))?,
            SetValue::Verdict => writeln!(f, " : verdict")?,
        }
        if self.interval {
            writeln!(f, "\t\tflags interval")?;
        }
        for (index, element) in self.elements.iter().enumerate() {
            let lead = if index == 0 {
                "elements = {"
            } else {
                "            "
            };
            let tail = if index + 1 == self.elements.len() {
                " }"
            } else {
                ","
            };
            writeln!(f, "\t\t{lead} {element}{tail}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.last {
            None => f.write_str(&dotted(&self.key))?,
            Some(last) => match subnet(&self.key, last) {
                Some(net) => write!(f, "{net}")?,
                None => write!(f, "{}-{}", dotted(&self.key), dotted(last))?,
            },
        }
        match &self.outcome {
            Outcome::None => Ok(()),
            Outcome::Data(parts) => write!(f, " : {}", dotted(parts)),
            Outcome::Verdict(verdict) => write!(f, " : {verdict}"),
        }
    }
}

/// The network that a range of addresses is, if it is one.
fn subnet(first: &[Atom], last: &[Atom]) -> Option<IpNet> {
    let ([Atom::Address(first)], [Atom::Address(last)]) = (first, last) else {
        return None;
    };
    let length = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            32 - (u32::from(*first) ^ u32::from(*last)).count_ones()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            128 - (u128::from(*first) ^ u128::from(*last)).count_ones()
        }
        _ => return None,
    };
    let net = IpNet::new(*first, length as u8).ok()?;
    (net.network() == *first && net.broadcast() == *last).then_some(net)
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            HookKind::Filter => "filter",
            HookKind::Nat => "nat",
        };
        let point = match self.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        let priority = self.priority;
        write!(
            f,
            "type {kind} hook {point} priority {priority}; policy accept;"
        )
    }
}

fn print_chain(f: &mut Formatter<'_>, family: Family, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(hook) = chain.hook {
        writeln!(f, "\t\t{hook}")?;
    }
    for statements in &chain.rules {
        let mut line = String::new();
        for statement in statements {
            if !line.is_empty() {
                line.push(' ');
            }
            print_statement(&mut line, family, statement)?;
        }
        writeln!(f, "\t\t{line}")?;
    }
    writeln!(f, "\t}}")
}

fn field(family: Family, field: Field) -> String {
    match field {
        Field::InputInterface => "iifname".to_owned(),
        Field::OutputInterface => "oifname".to_owned(),
        Field::Protocol => "meta l4proto".to_owned(),
        Field::Source => format!("{family} saddr"),
        Field::Destination => format!("{family} daddr"),
        Field::DestinationPort => "th dport".to_owned(),
    }
}

fn fields(family: Family, list: &[Field]) -> String {
    let names: Vec<String> = list.iter().map(|one| field(family, *one)).collect();
    names.join(" . ")
}

fn sign(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}

fn print_statement(line: &mut String, family: Family, statement: &Statement) -> fmt::Result {
    match statement {
        Statement::Is {
            field: name,
            not,
            value,
        } => {
            write!(line, "{} {}{value}", field(family, *name), sign(*not))
        }
        Statement::In {
            field: name,
            not,
            net,
        } => {
            write!(line, "{} {}", field(family, *name), sign(*not))?;
            if net.prefix_len() == net.max_prefix_len() {
                return write!(line, "{}", net.addr());
            }
            write!(line, "{net}")
        }
        Statement::InSet {
            fields: names,
            not,
            set,
        } => {
            write!(line, "{} {}@{set}", fields(family, names), sign(*not))
        }
        Statement::DestinationIsLocal => line.write_str("fib daddr type local"),
        Statement::SourceIsElsewhere => line.write_str("fib saddr type != local"),
        Statement::Established => line.write_str("ct state established,related"),
        Statement::New => line.write_str("ct state new"),
        Statement::SendCopy {
            next_hop,
            interface,
            ..
        } => write!(line, "dup to {next_hop} device \"{interface}\""),
        Statement::Translated => line.write_str("ct status dnat"),
        Statement::VerdictMap { fields: names, map } => {
            write!(line, "{} vmap @{map}", fields(family, names))
        }
        Statement::DestinationMap { fields: names, map } => {
            write!(
                line,
                "dnat {family} to {} map @{map}",
                fields(family, names)
            )
        }
        Statement::Masquerade => line.write_str("masquerade"),
        Statement::Source(address) => write!(line, "snat to {address}"),
        Statement::Port {
            protocol,
            side,
            port,
        } => write!(line, "{} {side} {port}", Atom::Protocol(*protocol)),
        Statement::SetPort {
            protocol,
            side,
            port,
        } => write!(line, "{} {side} set {port}", Atom::Protocol(*protocol)),
        Statement::Counter => line.write_str("counter"),
        Statement::Verdict(verdict) => write!(line, "{verdict}"),
    }
}
