//! Interfaces that hang on others (`linux/if_link.h`): macvlan, ipvlan and VLANs; and dummies, for who has nothing to hang on.

use std::os::fd::{AsRawFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use super::link::{
    IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
    IFLA_NET_NS_FD, Mac, RTM_NEWLINK, info,
};
use super::message::Messages;
use super::{CREATE, EXCLUSIVE};

const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// What macvlan interfaces on one parent do with frames for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Nothing.
    Private,
    /// Send them out; the switch may send them back.
    Vepa,
    /// Deliver them.
    #[default]
    Bridge,
    /// There is only one, which has the parent for itself.
    Passthru,
}

impl MacvlanMode {
    /// The mode of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "private" => Self::Private,
            "vepa" => Self::Vepa,
            "bridge" => Self::Bridge,
            "passthru" => Self::Passthru,
            _ => return None,
        })
    }

    /// `enum macvlan_mode`.
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// On which layer ipvlan interfaces meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Ethernet.
    #[default]
    L2,
    /// IP, without the host's firewall.
    L3,
    /// IP, with the host's firewall.
    L3s,
}

impl IpvlanMode {
    /// The mode of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "l2" => Self::L2,
            "l3" => Self::L3,
            "l3s" => Self::L3s,
            _ => return None,
        })
    }
}

/// What ipvlan interfaces on one parent do with packets for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Deliver them.
    #[default]
    Bridge,
    /// Nothing.
    Private,
    /// Send them out.
    Vepa,
}

impl IpvlanFlag {
    /// The flag of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bridge" => Self::Bridge,
            "private" => Self::Private,
            "vepa" => Self::Vepa,
            _ => return None,
        })
    }
}

/// The kind of a child, with its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// With an Ethernet address of its own.
    Macvlan(MacvlanMode),
    /// With its parent's.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// An interface in another namespace that hangs on one of the socket's.
#[derive(Debug)]
pub struct Child<'a> {
    /// Interface number of the parent.
    pub parent: u32,
    /// Name in `netns`, which nobody has in the socket's namespace either: before Linux 6.15 the kernel looks there.
    pub name: &'a str,
    /// Where it goes.
    pub netns: BorrowedFd<'a>,
    /// Ethernet address; ipvlan has none of its own.
    pub mac: Mac,
    /// Largest packet in bytes; 0 for the parent's.
    pub mtu: u32,
    /// What it is.
    pub kind: ChildKind,
}

/// Asks for a child that is down.
pub fn add_child(batch: &mut Messages, child: &Child<'_>) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, child.name)
        .put_u32(IFLA_LINK, child.parent)
        .put_u32(IFLA_NET_NS_FD, child.netns.as_raw_fd().cast_unsigned());
    if child.mtu != 0 {
        batch.put_u32(IFLA_MTU, child.mtu);
    }
    match child.kind {
        ChildKind::Macvlan(mode) => {
            // A passthru child has the parent's address, which it would change with its own.
            if mode != MacvlanMode::Passthru {
                batch.put(IFLA_ADDRESS, &child.mac);
            }
            batch.nested(IFLA_LINKINFO, |kind| {
                kind.put(IFLA_INFO_KIND, b"macvlan")
                    .nested(IFLA_INFO_DATA, |data| {
                        data.put_u32(IFLA_MACVLAN_MODE, mode.number());
                    });
            });
        }
        ChildKind::Ipvlan(mode, flag) => {
            batch.nested(IFLA_LINKINFO, |kind| {
                kind.put(IFLA_INFO_KIND, b"ipvlan")
                    .nested(IFLA_INFO_DATA, |data| {
                        data.put(IFLA_IPVLAN_MODE, &(mode as u16).to_ne_bytes())
                            .put(IFLA_IPVLAN_FLAGS, &(flag as u16).to_ne_bytes());
                    });
            });
        }
    }
}

/// Asks for an ipvlan interface without a parent, which no kernel makes; one that does not know ipvlan says so
/// (`EOPNOTSUPP`).
pub fn probe_ipvlan(batch: &mut Messages) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"ipvlan");
        });
}

/// Asks for an 802.1Q interface on a parent, down.
pub fn add_vlan(batch: &mut Messages, name: &str, parent: u32, id: u16) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .put_u32(IFLA_LINK, parent)
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"vlan")
                .nested(IFLA_INFO_DATA, |data| {
                    data.put(IFLA_VLAN_ID, &id.to_ne_bytes());
                });
        });
}

/// Asks for an interface that leads nowhere, down.
pub fn add_dummy(batch: &mut Messages, name: &str) {
    batch
        .begin(RTM_NEWLINK, CREATE | EXCLUSIVE, &info(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .nested(IFLA_LINKINFO, |kind| {
            kind.put(IFLA_INFO_KIND, b"dummy");
        });
}
