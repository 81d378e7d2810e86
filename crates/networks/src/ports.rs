//! Published ports: what is asked for, which host port it becomes, and the bound socket that keeps it ours.

mod holder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::sysctl;

/// How long a port is tried that nobody seems to have, and the time between two tries.
const INSISTENCE: Duration = Duration::from_millis(300);
const BREATH: Duration = Duration::from_millis(5);

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of a container that is reachable at the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Host address; unspecified for all of its family.
    pub address: IpAddr,
    /// Host port; 0 where the network is routed and the container's own address is all there is.
    pub port: u16,
    /// Port of the container.
    pub container_port: u16,
}

impl PublishedPort {
    fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (self.address == other.address
                || self.address.is_unspecified()
                || other.address.is_unspecified())
    }
}

/// A port that a container has, with the container's name.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The port.
    pub port: PublishedPort,
    /// Who has it.
    pub owner: String,
}

/// A binding that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the container.
    pub container_port: u16,
    /// A host address; `None` for the network's and the daemon's default.
    pub address: Option<IpAddr>,
    /// `None` for any free port.
    pub range: Option<RangeInclusive<u16>>,
}

impl Wish {
    /// Whether any free host port will do.
    pub fn any_port(&self) -> bool {
        self.range.is_none()
    }

    /// Whether the host port of another may be one that will do.
    pub fn may_take(&self, other: &PublishedPort) -> bool {
        let range = self.range.as_ref();
        self.protocol == other.protocol && range.is_none_or(|range| range.contains(&other.port))
    }

    /// How many host ports will do.
    pub fn breadth(&self) -> usize {
        self.range.clone().map_or(usize::MAX, |range| range.count())
    }

    /// Whether a published port is what is wanted; where nothing is translated, the host's port is none's.
    pub fn is_met_by(&self, port: &PublishedPort) -> bool {
        let range = self.range.as_ref();
        self.protocol == port.protocol
            && self.container_port == port.container_port
            && self.address.is_none_or(|address| address == port.address)
            && (port.port == 0 || range.is_none_or(|range| range.contains(&port.port)))
    }
}

/// Reads `80/tcp` and a host address and port (`""`, `8080`, `8000-8010`).
pub fn wish(container: &str, host: &str, port: &str) -> Result<Wish, NetworkError> {
    let (container_port, protocol) = container_port(container)?;
    let invalid =
        |text: &str| NetworkError::Invalid(format!("invalid port specification: {text:?}"));
    let address = match host {
        "" => None,
        text => {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let parsed = bare.parse();
            Some(parsed.map_err(|_| NetworkError::Invalid(format!("invalid IP address: {text}")))?)
        }
    };
    let range = match port.split_once('-') {
        None if port.is_empty() || port == "0" => None,
        None => {
            let port = port.parse().map_err(|_| invalid(port))?;
            Some(port..=port)
        }
        Some((first, last)) => {
            let first: u16 = first.parse().map_err(|_| invalid(port))?;
            Some(first..=last.parse().map_err(|_| invalid(port))?)
        }
    };
    if range.as_ref().is_some_and(RangeInclusive::is_empty) {
        return Err(invalid(port));
    }
    Ok(Wish {
        protocol,
        container_port,
        address,
        range,
    })
}

/// Reads `80/tcp`.
pub fn container_port(text: &str) -> Result<(u16, Protocol), NetworkError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(NetworkError::Invalid(format!("invalid proto: {other}"))),
    };
    let number = number.parse();
    let invalid = |_| NetworkError::Invalid(format!("invalid port specification: {text:?}"));
    Ok((number.map_err(invalid)?, protocol))
}

/// Finds one host port that is free on all these addresses, and holds it on each.
pub fn reserve(
    wish: &Wish,
    addresses: &[IpAddr],
    taken: &[Taken],
    hint: u16,
) -> Result<Vec<(PublishedPort, Option<OwnedFd>)>, NetworkError> {
    let range = wish.range.clone().unwrap_or_else(ephemeral);
    let start = if wish.range.is_none() && range.contains(&hint) {
        hint
    } else {
        *range.start()
    };
    let single = range.start() == range.end();
    for port in (start..=*range.end()).chain(*range.start()..start) {
        let held = if single {
            insist(|| hold_all(wish, addresses, taken, port))
        } else {
            hold_all(wish, addresses, taken, port)
        };
        match held {
            Ok(held) => return Ok(held),
            Err(NetworkError::PortAllocated { .. } | NetworkError::PortInUse { .. }) if !single => {
            }
            Err(error) => return Err(error),
        }
    }
    let address = addresses.first().copied();
    Err(NetworkError::NoPort {
        address: address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
    })
}

/// Tries again for a moment when nobody can be found who has the port: it may be ours, just closed, and inherited by a process
/// that is being started and has not come to its own program yet.
fn insist<T>(hold: impl Fn() -> Result<T, NetworkError>) -> Result<T, NetworkError> {
    let end = Instant::now() + INSISTENCE;
    loop {
        match hold() {
            Err(NetworkError::PortInUse { holder, .. })
                if holder.is_empty() && Instant::now() < end =>
            {
                std::thread::sleep(BREATH);
            }
            result => return result,
        }
    }
}

fn hold_all(
    wish: &Wish,
    addresses: &[IpAddr],
    taken: &[Taken],
    port: u16,
) -> Result<Vec<(PublishedPort, Option<OwnedFd>)>, NetworkError> {
    let mut held = Vec::new();
    for address in addresses {
        let published = PublishedPort {
            protocol: wish.protocol,
            address: *address,
            port,
            container_port: wish.container_port,
        };
        if let Some(other) = taken.iter().find(|other| other.port.collides(&published)) {
            return Err(NetworkError::PortAllocated {
                at: SocketAddr::new(*address, port),
                owner: other.owner.clone(),
            });
        }
        held.push((published, hold(&published)?));
    }
    Ok(held)
}

/// `net.ipv4.ip_local_port_range`, else what Docker falls back to.
fn ephemeral() -> RangeInclusive<u16> {
    let text = sysctl::get("ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first < last => first..=last,
        _ => 49153..=65535,
    }
}

/// The addresses that stand for all of a host.
pub fn everywhere(ipv4: bool, ipv6: bool) -> Vec<IpAddr> {
    let four = ipv4.then_some(Ipv4Addr::UNSPECIFIED.into());
    let six = ipv6.then_some(Ipv6Addr::UNSPECIFIED.into());
    four.into_iter().chain(six).collect()
}

/// Binds the host port without listening: no other program can take it, and who holds it already is found out. A kernel
/// without the protocol (SCTP) has nobody to collide with.
pub fn hold(port: &PublishedPort) -> Result<Option<OwnedFd>, NetworkError> {
    let at = SocketAddr::new(port.address, port.port);
    let failed = |errno: rustix::io::Errno| {
        let protocol = port.protocol.name();
        if errno == rustix::io::Errno::ADDRINUSE {
            return NetworkError::PortInUse {
                at,
                protocol,
                holder: holder::of(port).map_or_else(String::new, |name| format!(" by {name}")),
            };
        }
        NetworkError::PortBind {
            at,
            protocol,
            reason: match errno {
                rustix::io::Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
                other => std::io::Error::from(other).to_string(),
            },
        }
    };
    if port.port == 0 {
        return Ok(None);
    }
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let family = if port.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol) {
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    if port.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).map_err(failed)?;
    }
    rustix::net::bind(&socket, &at).map_err(failed)?;
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_port_is_tried_again_when_nobody_seems_to_have_it() {
        let tries = Cell::new(0);
        let in_use = |holder: &str| NetworkError::PortInUse {
            at: ([127, 0, 0, 1], 80).into(),
            protocol: "tcp",
            holder: holder.to_owned(),
        };
        let free_at_last = || {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                return Err(in_use(""));
            }
            Ok(tries.get())
        };
        assert_eq!(insist(free_at_last).unwrap(), 2);
        let taken = || {
            tries.set(tries.get() + 1);
            Err::<(), _>(in_use(" by nginx (process 7)"))
        };
        insist(taken).unwrap_err();
        assert_eq!(tries.get(), 3);
    }
}
