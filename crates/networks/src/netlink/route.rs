//! Addresses and routes over rtnetlink (`linux/if_addr.h`, `linux/rtnetlink.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::message::{Attributes, Message, Messages};
use super::socket::{NetlinkError, Socket};
use super::{CREATE, DUMP, EXCLUSIVE, REPLACE};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// Bytes of a `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// Bytes of a `struct rtmsg`.
const ROUTE: usize = 12;

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// The bytes of an address in network order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).into())
}

/// Gives an interface an address; IPv6 ones are usable at once (no duplicate detection).
pub fn add_address(batch: &mut Messages, index: u32, address: IpNet) {
    let mut header = [0; ADDRESS];
    header[0] = family(address.addr());
    header[1] = address.prefix_len();
    if matches!(address, IpNet::V6(_)) {
        header[2] = IFA_F_NODAD;
    }
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(address.addr());
    batch
        .begin(RTM_NEWADDR, CREATE | EXCLUSIVE, &header)
        .put(IFA_LOCAL, &bytes)
        .put(IFA_ADDRESS, &bytes);
    if let IpNet::V4(net) = address {
        batch.put(IFA_BROADCAST, &net.broadcast().octets());
    }
}

/// Takes an address from an interface.
pub fn delete_address(batch: &mut Messages, index: u32, address: IpNet) {
    let mut header = [0; ADDRESS];
    header[0] = family(address.addr());
    header[1] = address.prefix_len();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch
        .begin(RTM_DELADDR, 0, &header)
        .put(IFA_LOCAL, &octets(address.addr()));
}

/// Lets the host take packets to ::1 from an interface: those that connection tracking turned back to it, because the
/// kernel drops others before (RFC 4291 2.5.3). Routes behind the one of `lo` differ in their metrics.
pub fn accept_loopback(batch: &mut Messages, index: u32) {
    let mut header = [0; ROUTE];
    header[0] = 10;
    header[1] = 128;
    header[4] = RT_TABLE_LOCAL;
    header[5] = RTPROT_BOOT;
    header[6] = RT_SCOPE_UNIVERSE;
    header[7] = RTN_LOCAL;
    batch
        .begin(RTM_NEWROUTE, CREATE | REPLACE, &header)
        .put(RTA_DST, &Ipv6Addr::LOCALHOST.octets())
        .put(RTA_OIF, &index.to_ne_bytes())
        .put(RTA_PRIORITY, &index.saturating_add(1024).to_ne_bytes());
}

/// A default route of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Whether it is of IPv6.
    pub ipv6: bool,
    /// Next hop, if the world is not on the link.
    pub gateway: Option<IpAddr>,
    /// Interface number.
    pub interface: u32,
}

fn unicast(ipv6: bool, gateway: bool) -> [u8; ROUTE] {
    let mut header = [0; ROUTE];
    header[0] = if ipv6 { 10 } else { 2 };
    header[4] = RT_TABLE_MAIN;
    header[5] = RTPROT_BOOT;
    header[6] = if gateway || ipv6 {
        RT_SCOPE_UNIVERSE
    } else {
        RT_SCOPE_LINK
    };
    header[7] = RTN_UNICAST;
    header
}

/// Sets the default route, in the place of another one if there is one.
pub fn set_default_route(batch: &mut Messages, route: &DefaultRoute) {
    let header = unicast(route.ipv6, route.gateway.is_some());
    batch.begin(RTM_NEWROUTE, CREATE | REPLACE, &header);
    if let Some(gateway) = route.gateway {
        batch.put(RTA_GATEWAY, &octets(gateway));
    }
    batch.put_u32(RTA_OIF, route.interface);
}

/// Removes the default route through an interface.
pub fn delete_default_route(batch: &mut Messages, ipv6: bool, interface: u32) {
    let mut header = unicast(ipv6, false);
    header[6] = RT_SCOPE_NOWHERE;
    batch
        .begin(RTM_DELROUTE, 0, &header)
        .put_u32(RTA_OIF, interface);
}

/// Removes the route to the multicast groups of a link, which the kernel makes of its own for IPv6.
pub fn delete_multicast_route(batch: &mut Messages, interface: u32) {
    let mut header = [0; ROUTE];
    header[0] = 10;
    header[1] = 8;
    header[4] = RT_TABLE_LOCAL;
    header[6] = RT_SCOPE_NOWHERE;
    batch
        .begin(RTM_DELROUTE, 0, &header)
        .put(
            RTA_DST,
            &Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).octets(),
        )
        .put_u32(RTA_OIF, interface);
}

/// The addresses of all interfaces, with interface numbers.
pub fn addresses(socket: &Socket) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(RTM_GETADDR, DUMP, &[0; ADDRESS]);
    let mut found = Vec::new();
    socket.dump(&mut batch, |message| found.extend(read_address(message)))?;
    Ok(found)
}

fn read_address(message: &Message<'_>) -> Option<(u32, IpNet)> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let attributes = Attributes::new(message.body, ADDRESS);
    let bytes = attributes
        .get(IFA_LOCAL)
        .or_else(|| attributes.get(IFA_ADDRESS))?;
    let net = IpNet::new(address_of(bytes)?, *message.body.get(1)?).ok()?;
    let index = u32::from_ne_bytes(message.body.get(4..8)?.try_into().ok()?);
    Some((index, net))
}

/// A route of the main table: where to, and through which interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; a default route has prefix length 0.
    pub destination: IpNet,
    /// Next hop, if the destination is not on the link.
    pub gateway: Option<IpAddr>,
    /// Interface number.
    pub interface: Option<u32>,
}

/// All routes of the namespace except those of its own addresses.
pub fn routes(socket: &Socket) -> Result<Vec<Route>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(RTM_GETROUTE, DUMP, &[0; ROUTE]);
    let mut found = Vec::new();
    socket.dump(&mut batch, |message| found.extend(read_route(message)))?;
    Ok(found)
}

fn read_route(message: &Message<'_>) -> Option<Route> {
    if message.kind != RTM_NEWROUTE || message.body.get(4) == Some(&RT_TABLE_LOCAL) {
        return None;
    }
    let attributes = Attributes::new(message.body, ROUTE);
    let prefix = *message.body.get(1)?;
    let destination = match (attributes.get(RTA_DST), message.body.first()?) {
        (Some(bytes), _) => IpNet::new(address_of(bytes)?, prefix).ok()?,
        (None, 2) => Ipv4Net::default().into(),
        (None, 10) => Ipv6Net::default().into(),
        (None, _) => return None,
    };
    Some(Route {
        destination,
        gateway: attributes.get(RTA_GATEWAY).and_then(address_of),
        interface: attributes.u32(RTA_OIF),
    })
}
