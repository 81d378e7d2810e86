//! Published ports: what is asked for, which host port it becomes, and the bound socket that keeps it ours.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::firewall::PortRule;
use crate::sysctl;

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
    /// Host address; unspecified for all.
    pub address: IpAddr,
    /// Host port.
    pub port: u16,
    /// Port of the container.
    pub container_port: u16,
}

impl PublishedPort {
    /// The firewall's view, for a container at `target`.
    pub fn rule(&self, target: IpAddr) -> PortRule {
        PortRule {
            protocol: self.protocol.number(),
            address: self.address,
            port: self.port,
            target,
            target_port: self.container_port,
        }
    }

    fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && (self.address == other.address
                || self.address.is_unspecified()
                || other.address.is_unspecified())
    }
}

/// A binding that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    protocol: Protocol,
    container_port: u16,
    address: IpAddr,
    /// `None` for any free port.
    range: Option<RangeInclusive<u16>>,
}

impl Wish {
    /// Whether any free host port will do.
    pub fn any_port(&self) -> bool {
        self.range.is_none()
    }
}

/// Reads `80/tcp` and a host address and port (`""`, `8080`, `8000-8010`).
pub fn wish(
    container: &str,
    host: &str,
    port: &str,
    default: IpAddr,
) -> Result<Wish, NetworkError> {
    let (number, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(NetworkError::Invalid(format!("invalid proto: {other}"))),
    };
    let invalid =
        |text: &str| NetworkError::Invalid(format!("invalid port specification: {text:?}"));
    let container_port = number.parse().map_err(|_| invalid(container))?;
    let address = match host {
        "" => default,
        text => text
            .parse()
            .map_err(|_| NetworkError::Invalid(format!("invalid IP address: {text}")))?,
    };
    if let IpAddr::V6(address) = address {
        let text = format!("cannot publish {container} on [{address}]: the network has no IPv6");
        return Err(NetworkError::Unsupported(text));
    }
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
    if range.as_ref().is_some_and(|range| range.is_empty()) {
        return Err(invalid(port));
    }
    Ok(Wish {
        protocol,
        container_port,
        address,
        range,
    })
}

/// Finds a host port for a wish that collides with none of `taken`, and holds it.
pub fn reserve(
    wish: &Wish,
    taken: &[PublishedPort],
    hint: u16,
) -> Result<(PublishedPort, Option<OwnedFd>), NetworkError> {
    let at = |port| PublishedPort {
        protocol: wish.protocol,
        address: wish.address,
        port,
        container_port: wish.container_port,
    };
    let address = wish.address;
    let range = wish.range.clone().unwrap_or_else(ephemeral);
    if range.start() == range.end() {
        let port = *range.start();
        let published = at(port);
        if taken.iter().any(|other| other.collides(&published)) {
            return Err(NetworkError::PortAllocated { address, port });
        }
        return Ok((published, hold(&published)?));
    }
    let start = if wish.range.is_none() && range.contains(&hint) {
        hint
    } else {
        *range.start()
    };
    let candidates = (start..=*range.end()).chain(*range.start()..start);
    for port in candidates {
        let published = at(port);
        if taken.iter().any(|other| other.collides(&published)) {
            continue;
        }
        match hold(&published) {
            Ok(socket) => return Ok((published, socket)),
            Err(NetworkError::PortBind { .. }) if port != *range.end() => {}
            Err(error) => return Err(error),
        }
    }
    Err(NetworkError::NoPort { address })
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

/// Binds the host port without listening: no other program can take it, and who holds it already is found out. A kernel
/// without the protocol (SCTP) has nobody to collide with.
pub fn hold(port: &PublishedPort) -> Result<Option<OwnedFd>, NetworkError> {
    let failed = |errno: rustix::io::Errno| NetworkError::PortBind {
        address: port.address,
        port: port.port,
        protocol: port.protocol.name(),
        reason: match errno {
            rustix::io::Errno::ADDRINUSE => "address already in use".to_owned(),
            rustix::io::Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
            other => std::io::Error::from(other).to_string(),
        },
    };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = match rustix::net::socket_with(AddressFamily::INET, kind, flags, protocol) {
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    rustix::net::bind(&socket, &SocketAddr::new(port.address, port.port)).map_err(failed)?;
    Ok(Some(socket))
}
