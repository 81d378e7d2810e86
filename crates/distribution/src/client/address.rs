//! Which addresses are spoken to at all, and which need not prove who they are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::error::RegistryError;

/// The registries of `insecure-registries`, and loopback.
#[derive(Clone, Debug, Default)]
pub struct Insecure {
    hosts: Vec<String>,
    ranges: Vec<IpNet>,
}

impl Insecure {
    /// Reads the setting.
    pub fn new(entries: &[String]) -> Result<Self, RegistryError> {
        let mut insecure = Self::default();
        for entry in entries {
            if let Ok(range) = entry.parse() {
                insecure.ranges.push(range);
            } else if entry.is_empty() || entry.contains('/') {
                return Err(RegistryError::Settings(format!(
                    "insecure registry {entry} is not valid: it is neither host[:port] nor an address range"
                )));
            } else {
                insecure.hosts.push(entry.to_ascii_lowercase());
            }
        }
        Ok(insecure)
    }

    /// Whether this registry need not prove who it is. Names are looked up for ranges.
    pub async fn holds(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority);
        if is_loopback_name(host) || self.hosts.iter().any(|h| *h == authority || h == host) {
            return true;
        }
        if self.ranges.is_empty() {
            return false;
        }
        let within = |address: &IpAddr| self.ranges.iter().any(|range| range.contains(address));
        if let Ok(address) = host.parse() {
            return within(&address);
        }
        match tokio::net::lookup_host((host, 0)).await {
            Ok(addresses) => addresses.map(|a| a.ip()).any(|a| within(&a)),
            Err(_) => false,
        }
    }
}

/// The host of `host[:port]`, an IPv6 address without its brackets.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    authority
        .split_once(':')
        .map_or(authority, |(host, _)| host)
}

/// Whether a host is this machine by its very name.
pub fn is_loopback_name(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|a| is_loopback(&a))
}

/// Whether an address leads to this machine.
pub fn is_loopback(address: &IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Whether nothing behind an address can be a registry: link-local addresses, and where clouds keep the metadata and the
/// credentials of a machine (CVE-2026-33990).
pub fn is_forbidden(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || matches!(
                    v4.octets(),
                    [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192]
                )
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

/// Looks names up and leaves out what must not be spoken to, so that no name leads there either.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Whether this machine may be meant.
    pub loopback: bool,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum NoAddress {
    #[error("lookup {0}: no such host")]
    Unknown(String),
    #[error("lookup {0}: address is not allowed for a registry")]
    Forbidden(String),
}

impl NoAddress {
    /// Whether another attempt may do better.
    pub fn passing(&self) -> bool {
        false
    }
}

impl Guard {
    /// Whether an address may be spoken to.
    pub fn allows(self, address: &IpAddr) -> bool {
        !is_forbidden(address) && (self.loopback || !is_loopback(address))
    }

    /// Whether the host of a URL may be spoken to; names that are no addresses are judged when they are looked up.
    pub fn allows_host(self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse() {
            Ok(address) => self.allows(&address),
            Err(_) => self.loopback || host != "localhost",
        }
    }

    async fn look_up(self, name: String) -> Result<Addrs, NoAddress> {
        let found = tokio::net::lookup_host((name.as_str(), 0)).await;
        let all: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
        let good: Vec<SocketAddr> = all
            .iter()
            .copied()
            .filter(|address| self.allows(&address.ip()))
            .collect();
        match (good.is_empty(), all.is_empty()) {
            (false, _) => Ok(Box::new(good.into_iter())),
            (true, true) => Err(NoAddress::Unknown(name)),
            (true, false) => Err(NoAddress::Forbidden(name)),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            guard
                .look_up(name.as_str().to_owned())
                .await
                .map_err(|error| Box::new(error) as _)
        })
    }
}

impl Guard {
    /// As reqwest takes it.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_and_what_is_listed_is_insecure() {
        let listed = ["reg.lan:5000", "other.lan", "10.1.0.0/16"].map(str::to_owned);
        let insecure = Insecure::new(&listed).unwrap();
        for (authority, want) in [
            ("localhost:5000", true),
            ("127.0.0.5", true),
            ("[::1]:80", true),
            ("reg.lan:5000", true),
            ("reg.lan:5001", false),
            ("other.lan:1", true),
            ("10.1.2.3:5000", true),
            ("10.2.0.1", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(insecure.holds(authority).await, want, "{authority}");
        }
        assert!(Insecure::new(&["http://x/".to_owned()]).is_err());
    }

    #[test]
    fn cve_2026_33990_link_local_and_metadata_addresses_are_never_spoken_to() {
        for (host, from_outside, from_loopback) in [
            ("169.254.169.254", false, false),
            ("[fe80::1]", false, false),
            ("[::ffff:169.254.169.254]", false, false),
            ("[fd00:ec2::254]", false, false),
            ("127.0.0.1", false, true),
            ("0.0.0.0", false, true),
            ("localhost", false, true),
            ("10.0.0.1", true, true),
            ("1.1.1.1", true, true),
        ] {
            assert_eq!(
                Guard { loopback: false }.allows_host(host),
                from_outside,
                "{host}"
            );
            assert_eq!(
                Guard { loopback: true }.allows_host(host),
                from_loopback,
                "{host}"
            );
        }
    }
}
