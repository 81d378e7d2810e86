//! What can go wrong with networks, in Docker's words.

use std::net::{IpAddr, SocketAddr};

use cais_state::StateError;
use cais_types::{Error, ErrorClass};

use crate::netlink::NetlinkError;

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network of this name or id.
    #[error("network {0} not found")]
    NotFound(String),
    /// Something that a request names is not there.
    #[error("{0}")]
    Missing(String),
    /// The name is taken.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// Containers are on it.
    #[error(
        "error while removing network: network {name} id {id} has active endpoints ({endpoints})"
    )]
    InUse {
        /// The network's name.
        name: String,
        /// The network's id.
        id: String,
        /// `name:"..." id:"..."` of each.
        endpoints: String,
    },
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Not built.
    #[error("{0}")]
    Unsupported(String),
    /// May not be done.
    #[error("{0}")]
    Forbidden(String),
    /// The container is not on the network.
    #[error("{0}")]
    NotConnected(String),
    /// Every address of the subnet is used.
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    NoAddress {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        name: String,
        /// The network's id.
        id: String,
    },
    /// The wanted address belongs to another endpoint.
    #[error("Address already in use")]
    AddressInUse,
    /// Every subnet of the pools overlaps one that is used.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// Another container publishes this port.
    #[error("Bind for {at} failed: port is already allocated by container {owner}")]
    PortAllocated {
        /// Host address and port.
        at: SocketAddr,
        /// The other container's name.
        owner: String,
    },
    /// Another program holds this port.
    #[error("failed to bind host port {at}/{protocol}: address already in use{holder}")]
    PortInUse {
        /// Host address and port.
        at: SocketAddr,
        /// `tcp`, ...
        protocol: &'static str,
        /// ` by NAME (process ID)`, if it could be found out.
        holder: String,
    },
    /// The port cannot be had, for example because the address is not this host's.
    #[error("failed to bind host port {at}/{protocol}: {reason}")]
    PortBind {
        /// Host address and port.
        at: SocketAddr,
        /// `tcp`, ...
        protocol: &'static str,
        /// The errno in words.
        reason: String,
    },
    /// The kernel or its configuration has no nf_tables.
    #[error(
        "failed to set up container networking: this kernel has no nf_tables (CONFIG_NF_TABLES); iptables is not used. \
         Load the modules nf_tables, nft_chain_nat, nft_ct, nft_fib_inet and nft_masq, or run the daemon with \
         --iptables=false and without published ports: {0}"
    )]
    NoFirewall(#[source] NetlinkError),
    /// No port of the range is free.
    #[error("Bind for {address} failed: all ports are allocated")]
    NoPort {
        /// Host address.
        address: IpAddr,
    },
    /// A port of a container cannot be published.
    #[error(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {name} ({id}): {source}"
    )]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        id: String,
        /// Why.
        #[source]
        source: Box<NetworkError>,
    },
    /// The kernel refused.
    #[error("failed to set up container networking: {task}: {source}")]
    Kernel {
        /// What was being done.
        task: &'static str,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
    /// The database refused.
    #[error(transparent)]
    State(#[from] StateError),
}

impl NetworkError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::Missing(_) => ErrorClass::NotFound,
            Self::Exists(_) => ErrorClass::Conflict,
            Self::InUse { .. } | Self::Forbidden(_) | Self::AddressInUse => ErrorClass::Forbidden,
            Self::Publish { source, .. } => source.class(),
            Self::Invalid(_) | Self::NoSubnet => ErrorClass::Invalid,
            Self::Unsupported(_) => ErrorClass::Unsupported,
            _ => ErrorClass::Internal,
        }
    }

    /// Names a failure to change the firewall.
    pub(crate) fn firewall(source: NetlinkError) -> Self {
        // The kernel knows no such netlink subsystem, or no such kind of table, chain or expression.
        let absent = [
            rustix::io::Errno::PROTONOSUPPORT,
            rustix::io::Errno::OPNOTSUPP,
        ];
        let absent = absent.iter().any(|errno| source.is(*errno));
        if absent || (source.index == 0 && source.is(rustix::io::Errno::INVAL)) {
            return Self::NoFirewall(source);
        }
        Self::Kernel {
            task: "firewall rules",
            source,
        }
    }

    /// Names the task that an error of the kernel interrupted.
    pub(crate) fn during<E: Into<NetlinkError>>(task: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Kernel {
            task,
            source: source.into(),
        }
    }
}

impl From<NetworkError> for Error {
    fn from(error: NetworkError) -> Self {
        Error::new(error.class(), error.to_string()).with_source(error)
    }
}
