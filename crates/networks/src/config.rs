//! How the daemon wants its networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Whose firewall decides who may reach published ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishFirewall {
    /// Nobody's: what is published is open, as in Docker.
    #[default]
    None,
    /// The host's own input rules.
    Host,
}

/// The options of the networks of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the default bridge (`--bridge`); `none` for no default bridge.
    pub bridge: String,
    /// Name of our nftables tables.
    pub table: String,
    /// Address and subnet of the default bridge (`--bip`).
    pub bip: Option<IpNet>,
    /// Part of that subnet which containers get addresses from (`--fixed-cidr`).
    pub fixed_cidr: Option<Ipv4Net>,
    /// Address and subnet of the default bridge for IPv6 (`--bip6`).
    pub bip_v6: Option<Ipv6Net>,
    /// IPv6 subnet of the default bridge, or the part of it which containers get addresses from (`--fixed-cidr-v6`).
    pub fixed_cidr_v6: Option<Ipv6Net>,
    /// Whether the default bridge has IPv6 (`--ipv6`).
    pub ipv6: bool,
    /// Next hop of containers on the default bridge, if it is not the bridge itself (`--default-gateway`).
    pub default_gateway: Option<Ipv4Addr>,
    /// See `default_gateway`.
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// Where subnets come from, with the prefix length of each (`--default-address-pool`). Without one for IPv6, those
    /// come from a range of our own (RFC 4193).
    pub pools: Vec<(IpNet, u8)>,
    /// By driver, options of networks that do not give them (`--default-network-opt`).
    pub default_network_options: BTreeMap<String, BTreeMap<String, String>>,
    /// Largest packet of the default bridge in bytes (`--mtu`).
    pub mtu: u32,
    /// Whose firewall decides who may reach published ports (`--publish-firewall`).
    pub publish_firewall: PublishFirewall,
    /// Whether firewall rules are made (`--iptables`).
    pub firewall: bool,
    /// Whether containers of the default bridge may talk to each other (`--icc`).
    pub icc: bool,
    /// Whether traffic of the default bridge leaves under the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// Whether forwarding of IPv4 is switched on (`--ip-forward`).
    pub ip_forward: bool,
    /// Host address of published ports that name none (`--ip`).
    pub publish_address: IpAddr,
    /// What `host-gateway` stands for (`--host-gateway-ip`).
    pub host_gateway: Option<IpAddr>,
    /// Resolvers, search domains and options of containers that name none (`--dns*`).
    pub dns: Vec<String>,
    /// See `dns`.
    pub dns_search: Vec<String>,
    /// See `dns`.
    pub dns_options: Vec<String>,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "cais0".to_owned(),
            table: "cais".to_owned(),
            bip: None,
            fixed_cidr: None,
            bip_v6: None,
            fixed_cidr_v6: None,
            ipv6: false,
            default_gateway: None,
            default_gateway_v6: None,
            pools: default_pools(),
            default_network_options: BTreeMap::new(),
            mtu: 1500,
            publish_firewall: PublishFirewall::None,
            firewall: true,
            icc: true,
            masquerade: true,
            ip_forward: true,
            publish_address: IpAddr::from([0, 0, 0, 0]),
            host_gateway: None,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// One /16 for the default bridge as Docker has it, then /24s, so that networks do not run out.
fn default_pools() -> Vec<(IpNet, u8)> {
    let pool = |first, second, length, size| {
        let net = Ipv4Net::new_assert([first, second, 0, 0].into(), length);
        (IpNet::V4(net), size)
    };
    vec![
        pool(172, 17, 16, 16),
        pool(172, 18, 15, 24),
        pool(172, 20, 14, 24),
        pool(172, 24, 14, 24),
        pool(172, 28, 14, 24),
        pool(192, 168, 16, 24),
    ]
}
