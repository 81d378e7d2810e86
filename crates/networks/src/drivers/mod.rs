//! What makes the packets of a network move: one type per driver behind [`NetworkDriver`].

mod bridge;
mod options;
mod parent;

use std::net::IpAddr;

use crate::bridge::{mac_of, random_mac};
use crate::config::Config;
use crate::error::NetworkError;
use crate::netlink::link::Mac;
use crate::store::{Driver, EndpointRecord, NetworkRecord};
use crate::wire::Attachment;

pub use options::Options;

/// What a driver may look at when it plans a network.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The networks there are.
    pub others: &'a [&'a NetworkRecord],
}

/// Where an endpoint hangs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The network.
    pub network: &'a NetworkRecord,
    /// Interface number of what [`NetworkDriver::raise`] made.
    pub interface: u32,
    /// Whether the container publishes ports.
    pub publishes: bool,
}

/// A kind of networks whose containers have interfaces. Methods block; the caller holds the store's lock, so that nobody
/// else changes networks meanwhile.
pub trait NetworkDriver: Sync {
    /// How many subnets of one address family a network may have.
    fn subnets(&self) -> usize;

    /// Reads the options into the driver's part of the record. Nothing is made.
    fn plan(
        &self,
        record: &mut NetworkRecord,
        around: &Surroundings<'_>,
    ) -> Result<(), NetworkError>;

    /// Makes the kernel objects, or finds them again; answers the interface number of what endpoints hang on.
    fn raise(&self, record: &NetworkRecord, config: &Config) -> Result<u32, NetworkError>;

    /// Removes what [`NetworkDriver::raise`] made; what is gone is no error.
    fn lower(&self, record: &NetworkRecord) -> Result<(), NetworkError>;

    /// What the interface of an endpoint hangs on.
    fn attachment(&self, place: &Place<'_>, endpoint: &EndpointRecord) -> Attachment;

    /// The Ethernet address of a new endpoint that has this IP address.
    fn mac(&self, wanted: Option<Mac>, address: Option<IpAddr>) -> Result<Mac, NetworkError> {
        match (wanted, address) {
            (Some(mac), _) => Ok(mac),
            (None, Some(address)) => Ok(mac_of(address)),
            (None, None) => random_mac(),
        }
    }

    /// Whether endpoints lead out of the network.
    fn leads_out(&self, network: &NetworkRecord) -> Leads;
}

/// How the endpoints of a network lead out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Not at all.
    Nowhere,
    /// Through the subnet's gateway, if it has one.
    ThroughGateway,
    /// The world is on the link.
    OnLink,
}

/// The driver of this kind; `None` for those without interfaces.
pub fn of(driver: Driver) -> Option<&'static dyn NetworkDriver> {
    match driver {
        Driver::Bridge => Some(&bridge::BridgeDriver),
        Driver::Macvlan => Some(&parent::Macvlan),
        Driver::Ipvlan => Some(&parent::Ipvlan),
        Driver::Host | Driver::Null => None,
    }
}
