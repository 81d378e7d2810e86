//! What the database keeps of networks and sandboxes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cais_types::{ContainerId, NetworkId};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::firewall::{BridgeRules, PortRule};
use crate::netlink::link::Mac;
use crate::ports::PublishedPort;

/// Table of [`NetworkRecord`]s by network id.
pub(super) const NETWORKS: &str = "network";
/// Table of [`SandboxRecord`]s by container id.
pub(super) const ENDPOINTS: &str = "endpoint";

/// What makes the packets of a network move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Loopback only.
    Null,
}

impl Driver {
    /// The word that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// The part of a network that only bridges have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// Interface name.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// The host's address in it.
    pub gateway: Ipv4Addr,
    /// Where endpoint addresses come from, if not from all of the subnet.
    pub range: Option<Ipv4Net>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether containers may talk to each other.
    pub icc: bool,
    /// Whether traffic leaves under the host's address.
    pub masquerade: bool,
}

impl BridgeRecord {
    pub(super) fn rules(&self, internal: bool) -> BridgeRules {
        BridgeRules {
            bridge: self.name.clone(),
            subnet: self.subnet,
            masquerade: self.masquerade,
            internal,
            icc: self.icc,
        }
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Stable over restarts.
    pub id: NetworkId,
    /// Unique.
    pub name: String,
    /// Its driver.
    pub driver: Driver,
    /// When it was made.
    pub created: Timestamp,
    /// Whether nothing outside can be reached.
    pub internal: bool,
    /// Driver options as clients gave them.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// For [`Driver::Bridge`].
    pub bridge: Option<BridgeRecord>,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The network it is on.
    pub network: NetworkId,
    /// 64 hex digits.
    pub id: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Name of the host's end.
    pub veth: String,
}

/// Everything the host holds for a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The container's name when it started.
    pub name: String,
    /// In the order of the networks' names; the first one has the default route and the published ports.
    pub endpoints: Vec<EndpointRecord>,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
}

impl SandboxRecord {
    pub(super) fn rules(&self) -> Vec<PortRule> {
        let Some(first) = self.endpoints.first() else {
            return Vec::new();
        };
        let target = first.address.into();
        self.ports.iter().map(|port| port.rule(target)).collect()
    }
}

/// The host's ends of a container's interfaces begin like this.
pub(super) fn veth_prefix(container: &ContainerId) -> String {
    format!("veth{}", &container.short()[..8])
}
