//! Network interfaces over rtnetlink (rtnetlink(7), `linux/if_link.h`): bridges, veth pairs, their state.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Attributes, Message, Messages, u32_at};
use super::socket::{NetlinkError, Socket};
use super::{CREATE, DUMP, EXCLUSIVE};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;
const AF_INET6: u16 = 10;

/// Bytes of a `struct ifinfomsg`.
const INFO: usize = 16;

pub use super::child::{IpvlanFlag, IpvlanMode, MacvlanMode};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// An interface as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface number in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// `bridge`, `veth`, ...; empty for hardware.
    pub kind: String,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
}

/// A pair of interfaces with one end in another namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in the socket's namespace.
    pub name: &'a str,
    /// Name of the end in `netns`.
    pub peer: &'a str,
    /// Interface number of that end, free in its namespace; 0 for any.
    pub peer_index: u32,
    /// Where the peer goes.
    pub netns: BorrowedFd<'a>,
    /// Ethernet address of the peer.
    pub mac: Mac,
    /// Largest packet of both ends in bytes.
    pub mtu: u32,
    /// Interface number of the bridge that the near end becomes a port of.
    pub bridge: u32,
}

pub(super) fn info(index: u32, flags: u32, change: u32) -> [u8; INFO] {
    let mut header = [0; INFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Asks for a bridge that is down.
pub fn add_bridge(batch: &mut Messages, name: &str, mac: Mac, mtu: u32) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .put(IFLA_ADDRESS, &mac)
        .put_u32(IFLA_MTU, mtu)
        .nested(IFLA_LINKINFO, |info| {
            info.put(IFLA_INFO_KIND, b"bridge");
        });
}

/// Asks for a veth pair whose far end is born in the other namespace and whose near end is a port of the bridge. Both are
/// down: the kernel refuses to open an end before the pair is complete, and [`port_up`] keeps IPv6 off the near one.
pub fn add_veth(batch: &mut Messages, veth: &Veth<'_>) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, veth.name)
        .put_u32(IFLA_MTU, veth.mtu)
        .put_u32(IFLA_NUM_TX_QUEUES, 1)
        .put_u32(IFLA_NUM_RX_QUEUES, 1)
        .put_u32(IFLA_MASTER, veth.bridge)
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"veth")
                .nested(IFLA_INFO_DATA, |data| {
                    data.nested(VETH_INFO_PEER, |peer| {
                        peer.raw(&info(veth.peer_index, 0, 0))
                            .put_str(IFLA_IFNAME, veth.peer)
                            .put(IFLA_ADDRESS, &veth.mac)
                            .put_u32(IFLA_MTU, veth.mtu)
                            .put_u32(IFLA_NUM_TX_QUEUES, 1)
                            .put_u32(IFLA_NUM_RX_QUEUES, 1)
                            .put_u32(IFLA_NET_NS_FD, veth.netns.as_raw_fd().cast_unsigned());
                    });
                });
        });
}

/// Asks for a veth pair with both ends here, down.
pub fn add_pair(batch: &mut Messages, name: &str, peer: &str) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"veth")
                .nested(IFLA_INFO_DATA, |data| {
                    data.nested(VETH_INFO_PEER, |far| {
                        far.raw(&info(0, 0, 0)).put_str(IFLA_IFNAME, peer);
                    });
                });
        });
}

/// Asks for a veth pair with both ends here, down, under one Ethernet address: what is sent on one end to a neighbour that
/// nobody is asked for arrives at the other as meant for it.
pub fn add_loop(batch: &mut Messages, name: &str, peer: &str, mac: Mac) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .put(IFLA_ADDRESS, &mac)
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"veth")
                .nested(IFLA_INFO_DATA, |data| {
                    data.nested(VETH_INFO_PEER, |far| {
                        far.raw(&info(0, 0, 0))
                            .put_str(IFLA_IFNAME, peer)
                            .put(IFLA_ADDRESS, &mac);
                    });
                });
        });
}

/// Takes an interface up that resolves no neighbours.
pub fn up_without_arp(batch: &mut Messages, name: &str) {
    let flags = IFF_UP | IFF_NOARP;
    batch
        .begin(RTM_NEWLINK, 0, &info(0, flags, flags))
        .put_str(IFLA_IFNAME, name);
}

/// How a bridge treats one of its ports (`linux/if_bridge.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortMode {
    /// Frames may leave where they came in.
    pub hairpin: bool,
    /// Frames of other isolated ports are not for this one.
    pub isolated: bool,
}

/// Takes a bridge port up without an IPv6 address of its own.
pub fn port_up(batch: &mut Messages, name: &str, mode: PortMode) {
    batch
        .begin(RTM_NEWLINK, 0, &info(0, IFF_UP, IFF_UP))
        .put_str(IFLA_IFNAME, name)
        .nested(IFLA_AF_SPEC, |families| {
            families.nested(AF_INET6, |inet6| {
                inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
    if mode != PortMode::default() {
        put_port_mode(batch, mode);
    }
}

/// Changes how a bridge treats one of its ports.
pub fn set_port_mode(batch: &mut Messages, name: &str, mode: PortMode) {
    batch
        .begin(RTM_NEWLINK, 0, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name);
    put_port_mode(batch, mode);
}

fn put_port_mode(batch: &mut Messages, mode: PortMode) {
    batch.nested(IFLA_LINKINFO, |kind| {
        kind.put(IFLA_INFO_SLAVE_KIND, b"bridge")
            .nested(IFLA_INFO_SLAVE_DATA, |port| {
                port.put(IFLA_BRPORT_MODE, &[u8::from(mode.hairpin)])
                    .put(IFLA_BRPORT_ISOLATED, &[u8::from(mode.isolated)]);
            });
    });
}

/// Takes an interface up.
pub fn up(batch: &mut Messages, index: u32) {
    batch.begin(RTM_NEWLINK, 0, &info(index, IFF_UP, IFF_UP));
}

/// Takes an interface up by name.
pub fn up_by_name(batch: &mut Messages, name: &str) {
    batch
        .begin(RTM_NEWLINK, 0, &info(0, IFF_UP, IFF_UP))
        .put_str(IFLA_IFNAME, name);
}

/// Renames an interface that is down.
pub fn rename(batch: &mut Messages, index: u32, name: &str) {
    batch
        .begin(RTM_NEWLINK, 0, &info(index, 0, 0))
        .put_str(IFLA_IFNAME, name);
}

/// Removes an interface by name.
pub fn delete(batch: &mut Messages, name: &str) {
    batch
        .begin(RTM_DELLINK, 0, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name);
}

/// Finds an interface by name; `None` when there is none. Settles its carrier as [`find_index`] does.
pub fn find(socket: &Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Messages::new();
    batch
        .begin(RTM_GETLINK, 0, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name);
    match socket.get(&mut batch, read) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(None),
        other => other,
    }
}

/// Finds an interface by number. Asking for a single interface makes the kernel act on a change of its carrier that it
/// would else handle later, from a work queue; until then an interface that is up drops what it should send.
pub fn find_index(socket: &Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(RTM_GETLINK, 0, &info(index, 0, 0));
    match socket.get(&mut batch, read) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(None),
        other => other,
    }
}

/// All interfaces of the socket's namespace.
pub fn list(socket: &Socket) -> Result<Vec<Link>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(RTM_GETLINK, DUMP, &info(0, 0, 0));
    let mut links = Vec::new();
    socket.dump(&mut batch, |message| links.extend(read(message)))?;
    Ok(links)
}

fn read(message: &Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let attributes = Attributes::new(message.body, INFO);
    let kind = attributes
        .nested(IFLA_LINKINFO)
        .and_then(|info| info.text(IFLA_INFO_KIND));
    Some(Link {
        index: u32_at(message.body, 4)?,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        master: attributes.u32(IFLA_MASTER),
        kind: kind.unwrap_or_default().to_owned(),
        mac: attributes
            .get(IFLA_ADDRESS)
            .and_then(|mac| mac.try_into().ok()),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        up: u32_at(message.body, 8)? & IFF_UP != 0,
    })
}
