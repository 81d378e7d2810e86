//! Linux bridges of networks: made, found again, removed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::NetworkError;
use crate::netlink::link::{self, Mac, PortMode};
use crate::netlink::{Messages, Socket, route};
use crate::sysctl;

/// A bridge as it must be.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Interface name.
    pub name: String,
    /// The host's addresses on it.
    pub addresses: Vec<IpNet>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether the host may send from loopback addresses over it, for ports published there.
    pub route_localnet: bool,
    /// Whether it is ours alone: other addresses are taken from it.
    pub made: bool,
}

/// Makes the bridge, or brings one that is there into shape; answers its interface number.
pub fn ensure(socket: &Socket, bridge: &Bridge) -> Result<u32, NetworkError> {
    let task = "bridge";
    let find = || link::find(socket, &bridge.name).map_err(NetworkError::during(task));
    let mut found = find()?;
    let fresh = found.is_none();
    if fresh {
        let mut batch = Messages::new();
        link::add_bridge(&mut batch, &bridge.name, random_mac()?, bridge.mtu);
        socket.run(&mut batch).map_err(NetworkError::during(task))?;
        found = find()?;
    }
    let name = &bridge.name;
    let link = found.ok_or_else(|| NetworkError::NotFound(name.clone()))?;
    settings(bridge).map_err(NetworkError::during("bridge settings"))?;
    let mut batch = Messages::new();
    let mut have = Vec::new();
    if !fresh {
        let addresses = route::addresses(socket).map_err(NetworkError::during(task))?;
        let own = addresses
            .into_iter()
            .filter(|(index, _)| *index == link.index);
        have.extend(own.map(|(_, address)| address));
    }
    for old in have.iter().filter(|old| is_stale(bridge, old)) {
        route::delete_address(&mut batch, link.index, *old);
    }
    for address in bridge.addresses.iter().filter(|one| !have.contains(one)) {
        route::add_address(&mut batch, link.index, *address);
    }
    link::up(&mut batch, link.index);
    if bridge.ipv6 && bridge.route_localnet {
        route::accept_loopback(&mut batch, link.index);
    }
    socket
        .run(&mut batch)
        .map_err(NetworkError::during("bridge address"))?;
    Ok(link.index)
}

/// An address of a former configuration; link-local ones are the kernel's.
fn is_stale(bridge: &Bridge, address: &IpNet) -> bool {
    let kernels = match address.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    bridge.made && !kernels && !bridge.addresses.contains(address)
}

/// No router advertisements from containers (CVE-2020-13401), and no IPv6 where the network has none.
fn settings(bridge: &Bridge) -> std::io::Result<()> {
    let name = &bridge.name;
    let off = if bridge.ipv6 { "0" } else { "1" };
    sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), off)?;
    if bridge.ipv4 && bridge.route_localnet {
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    }
    Ok(())
}

/// How a bridge must treat the port of a container. Where br_netfilter is on, bridged frames pass the IP hooks: the
/// firewall's rules keep neighbours apart, and a frame translated to a container is bridged to its port, even back to
/// where it came from. Where it is off, bridged frames see no rule, and translated packets are routed.
pub fn port_mode(icc: bool, publishes: bool) -> PortMode {
    if icc && !publishes {
        return PortMode::default();
    }
    let filtered = filters(false);
    PortMode {
        hairpin: filtered && publishes,
        isolated: !filtered && !icc,
    }
}

/// Whether bridged frames of a family pass the IP hooks (br_netfilter).
pub fn filters(ipv6: bool) -> bool {
    let family = if ipv6 { "ip6" } else { "ip" };
    sysctl::get(&format!("bridge/bridge-nf-call-{family}tables")).is_ok_and(|on| on == "1")
}

/// Removes a bridge; a missing one is no error.
pub fn remove(socket: &Socket, name: &str) -> Result<(), NetworkError> {
    let mut batch = Messages::new();
    link::delete(&mut batch, name);
    match socket.run(&mut batch) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(()),
        other => other.map_err(NetworkError::during("bridge removal")),
    }
}

/// The Ethernet address that goes with an IP address, of the locally administered kind. Whoever has the IP address next, or
/// again after a restart, has the same one: what neighbours remember stays right.
pub fn mac_of(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        IpAddr::V6(address) => {
            // FNV-1a, of which 40 bits are enough for the endpoints of a network.
            let hash = address
                .octets()
                .into_iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
            let [a, b, c, d, e, ..] = hash.to_be_bytes();
            [0x06, a, b, c, d, e]
        }
    }
}

/// A random Ethernet address of the locally administered kind.
pub fn random_mac() -> Result<Mac, NetworkError> {
    let mut mac: Mac = random()?;
    mac[0] = mac[0] & 0xfc | 0x02;
    Ok(mac)
}

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], NetworkError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(NetworkError::during("random bytes"))?;
    Ok(bytes)
}
