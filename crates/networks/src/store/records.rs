//! What the database keeps of networks and sandboxes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cais_types::{ContainerId, NetworkId};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::netlink::link::{IpvlanFlag, IpvlanMode, Mac, MacvlanMode};
use crate::ports::PublishedPort;

use super::names::DnsWish;

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
    /// Interfaces with Ethernet addresses of their own on an interface of the host.
    Macvlan,
    /// Interfaces that share the Ethernet address of an interface of the host.
    Ipvlan,
}

impl Driver {
    /// The word that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

/// How the host treats packets between a bridge network and the world, for one address family
/// (`com.docker.network.bridge.gateway_mode_ipv4` and `_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Out under the host's address; in through published ports.
    #[default]
    Nat,
    /// As `nat`, and every port of a container's own address is open to who routes to it.
    NatUnprotected,
    /// No translation; published ports are open at the container's own address.
    Routed,
    /// The host has no address on the bridge; for internal networks.
    Isolated,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Next hop of containers; the host's address in the subnet on a bridge.
    pub gateway: Option<IpAddr>,
    /// Where endpoint addresses come from, if not from all of the subnet.
    pub range: Option<IpNet>,
    /// Addresses that are never given out, by what the user calls them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether the user chose the subnet; only then containers may have addresses of their choice.
    #[serde(default)]
    pub chosen: bool,
}

/// The part of a network that only bridges have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// Interface name.
    pub name: String,
    /// Whether we made the interface, and so remove it.
    pub made: bool,
    /// Whether containers may talk to each other.
    pub icc: bool,
    /// Whether traffic leaves under the host's address.
    pub masquerade: bool,
    /// That address, where it is not the one of the interface (`com.docker.network.host_ipv4`).
    #[serde(default)]
    pub host_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    #[serde(default)]
    pub host_ipv6: Option<Ipv6Addr>,
    /// See [`GatewayMode`].
    pub gateway_mode_ipv4: GatewayMode,
    /// See [`GatewayMode`].
    pub gateway_mode_ipv6: GatewayMode,
    /// Host address of published ports that name none (`com.docker.network.bridge.host_binding_ipv4`).
    pub host_binding: Option<Ipv4Addr>,
    /// Interfaces of the host from which containers may be reached directly.
    pub trusted_interfaces: Vec<String>,
    /// Whether the host shall have no IPv4 address on the bridge (`com.docker.network.bridge.inhibit_ipv4`).
    pub inhibit_ipv4: bool,
    /// Next hop of containers, where it is not the bridge itself (`--default-gateway`).
    pub next_hop: Option<Ipv4Addr>,
    /// See `next_hop`.
    pub next_hop_v6: Option<Ipv6Addr>,
}

/// What a network is on that hangs on an interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRecord {
    /// Interface name.
    pub name: String,
    /// Whether we made the interface (a VLAN, or a dummy), and so remove it.
    pub made: bool,
    /// How the interfaces on it behave.
    pub mode: ParentMode,
}

/// The driver's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParentMode {
    /// For [`Driver::Macvlan`].
    Macvlan(MacvlanMode),
    /// For [`Driver::Ipvlan`].
    Ipvlan(IpvlanMode, IpvlanFlag),
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
    /// Whether containers get IPv4 addresses.
    pub ipv4: bool,
    /// Whether containers get IPv6 addresses.
    pub ipv6: bool,
    /// Whether nothing outside can be reached.
    pub internal: bool,
    /// Kept for clients; on one host every container may join.
    pub attachable: bool,
    /// Whether it is only a configuration for other networks.
    pub config_only: bool,
    /// The network whose configuration it has.
    pub config_from: Option<String>,
    /// `default`, or `null` for containers without addresses.
    pub ipam_driver: String,
    /// As clients gave them.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// IPv4 subnets, then IPv6 ones.
    pub pools: Vec<Pool>,
    /// Driver options as clients gave them.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Largest packet of its interfaces in bytes.
    pub mtu: u32,
    /// What the interfaces in containers are called, before their number.
    pub interface_prefix: String,
    /// For [`Driver::Bridge`].
    pub bridge: Option<BridgeRecord>,
    /// For [`Driver::Macvlan`] and [`Driver::Ipvlan`].
    pub parent: Option<ParentRecord>,
}

impl NetworkRecord {
    /// The subnets of one address family.
    pub fn pools_of(&self, ipv6: bool) -> impl Iterator<Item = &Pool> {
        let fits = move |pool: &&Pool| matches!(pool.subnet, IpNet::V6(_)) == ipv6;
        self.pools.iter().filter(fits)
    }

    /// Whether users made it, so that names are answered on it and addresses may be chosen.
    pub fn is_user_defined(&self) -> bool {
        !matches!(self.name.as_str(), "bridge" | "host" | "none" | "default")
    }
}

/// Another container under a name of this one's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Name or id of the other container.
    pub target: String,
    /// What it is called here.
    pub alias: String,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The network it is on.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// 64 hex digits.
    pub id: String,
    /// Its IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub address_v6: Option<Ipv6Addr>,
    /// More addresses, out of link-local ranges.
    pub link_local: Vec<IpAddr>,
    /// Next hop to the world; none on internal networks.
    pub gateway: Option<Ipv4Addr>,
    /// See `gateway`.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Whether the world is on the link, so that the default route needs no next hop (ipvlan in the modes of layer 3).
    pub world_on_link: bool,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Name of the host's end; empty where the host has none.
    pub veth: String,
    /// Name inside: `eth0`, ...
    pub interface: String,
    /// Names that the user gave the container on this network.
    pub aliases: Vec<String>,
    /// Every name the network answers for: the container's name, aliases, short id, host name. Empty on the default bridge.
    pub dns_names: Vec<String>,
    /// Names for other containers that only this one sees.
    pub links: Vec<Link>,
    /// The endpoint with the highest one has the default route.
    pub gw_priority: i64,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
}

impl EndpointRecord {
    fn leads_out(&self, ipv6: bool) -> bool {
        let (address, gateway) = if ipv6 {
            (self.address_v6.is_some(), self.gateway_v6.is_some())
        } else {
            (self.address.is_some(), self.gateway.is_some())
        };
        address && (gateway || self.world_on_link)
    }

    /// All addresses that the network gave it.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let four = self.address.map(IpAddr::V4);
        four.into_iter().chain(self.address_v6.map(IpAddr::V6))
    }
}

/// Everything the host holds for a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The container's name when it started.
    pub name: String,
    /// In the order they were made.
    pub endpoints: Vec<EndpointRecord>,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
    /// How it wants names to be resolved.
    #[serde(default)]
    pub dns: DnsWish,
}

impl SandboxRecord {
    /// The endpoints with the default routes of IPv4 and IPv6, which have the published ports as well. The first one that
    /// leads out for both families has both, as in Docker; the order is that of priorities, then of names.
    pub fn gateways(&self) -> (Option<&EndpointRecord>, Option<&EndpointRecord>) {
        let mut order: Vec<&EndpointRecord> = self.endpoints.iter().collect();
        order.sort_by_key(|one| (Reverse(one.gw_priority), one.network_name.as_str()));
        let first = |ipv6| order.iter().copied().find(move |one| one.leads_out(ipv6));
        let both = order
            .iter()
            .find(|one| one.leads_out(false) && one.leads_out(true));
        match both {
            Some(both) => (Some(both), Some(both)),
            None => (first(false), first(true)),
        }
    }
}

/// The host's ends of a container's interfaces begin like this.
pub(super) fn veth_prefix(container: &ContainerId) -> String {
    format!("veth{}", &container.short()[..8])
}
