//! How the daemon wants its networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The options of the networks of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the default bridge (`--bridge`).
    pub bridge: String,
    /// Name of our nftables tables.
    pub table: String,
    /// Address and subnet of the default bridge (`--bip`).
    pub bip: Option<IpNet>,
    /// Part of that subnet which containers get addresses from (`--fixed-cidr`).
    pub fixed_cidr: Option<Ipv4Net>,
    /// Where subnets come from, with the prefix length of each (`--default-address-pool`).
    pub pools: Vec<(Ipv4Net, u8)>,
    /// Largest packet of container interfaces in bytes (`--mtu`).
    pub mtu: u32,
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "cais0".to_owned(),
            table: "cais".to_owned(),
            bip: None,
            fixed_cidr: None,
            pools: default_pools(),
            mtu: 1500,
            firewall: true,
            icc: true,
            masquerade: true,
            ip_forward: true,
            publish_address: IpAddr::from([0, 0, 0, 0]),
            host_gateway: None,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
        }
    }
}

/// One /16 for the default bridge as Docker has it, then /24s, so that networks do not run out.
fn default_pools() -> Vec<(Ipv4Net, u8)> {
    let pool = |first, second, length, size| {
        let net = Ipv4Net::new_assert([first, second, 0, 0].into(), length);
        (net, size)
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
