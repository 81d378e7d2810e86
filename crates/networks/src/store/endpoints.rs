//! Endpoints: from what is wanted to addresses and names, and from those to an interface.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use cais_types::{ContainerId, NetworkId};
use ipnet::IpNet;

use crate::bridge;
use crate::drivers::{self, Leads, NetworkDriver, Options, Place};
use crate::error::NetworkError;
use crate::netlink::link::Mac;
use crate::wire::{Defaults, Interface, Way};

use super::records::{Driver, EndpointRecord, Link, SandboxRecord, veth_prefix};
use super::{Network, State, Store};

/// Option of an endpoint: what the interface is called.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
/// Option of an endpoint: settings of the interface, with `IFNAME` for its name.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What is wanted of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointRequest {
    /// A fixed IPv4 address.
    pub address: Option<IpAddr>,
    /// A fixed IPv6 address.
    pub address_v6: Option<IpAddr>,
    /// More addresses, out of link-local ranges.
    pub link_local: Vec<IpAddr>,
    /// A fixed Ethernet address.
    pub mac: Option<Mac>,
    /// Names that the user gives the container on this network.
    pub aliases: Vec<String>,
    /// Every name the network answers for.
    pub dns_names: Vec<String>,
    /// Names for other containers that only this one sees.
    pub links: Vec<Link>,
    /// The endpoint with the highest one has the default route.
    pub gw_priority: i64,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
    /// Addresses it had before, which it gets again while they are free.
    pub former: Vec<IpAddr>,
}

/// An endpoint as it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: NetworkId,
    /// The network's name.
    pub network: String,
    /// 64 hex digits.
    pub endpoint_id: String,
    /// Next hop of its IPv4 default route; `None` on internal networks.
    pub gateway: Option<IpAddr>,
    /// Its IPv4 address with its subnet.
    pub address: Option<IpNet>,
    /// See `gateway`.
    pub gateway_v6: Option<IpAddr>,
    /// Its IPv6 address with its subnet.
    pub address_v6: Option<IpNet>,
    /// `02:42:...`; empty where it has none of its own.
    pub mac: String,
}

/// Who is put on a network.
pub(super) struct Guest<'a> {
    pub container: &'a ContainerId,
    /// Where the container is already.
    pub others: &'a [EndpointRecord],
}

impl Store {
    /// Takes addresses on a network; [`release`] gives them back.
    pub(super) fn endpoint(
        &self,
        state: &mut State,
        guest: &Guest<'_>,
        (name, wanted): (&str, &EndpointRequest),
    ) -> Result<EndpointRecord, NetworkError> {
        let id = state.find(name)?.record.id;
        let Some(network) = state.networks.get_mut(&id) else {
            return Err(NetworkError::NotFound(name.to_owned()));
        };
        let driver = driver_of(network)?;
        let record = &network.record;
        let interface = interface_name(record.interface_prefix.as_str(), wanted, guest.others);
        let number = self.veth_number.fetch_add(1, Ordering::Relaxed) & 0xfff;
        let leads = driver.leads_out(record);
        let mut endpoint = EndpointRecord {
            network: id,
            network_name: record.name.clone(),
            id: hex::encode(bridge::random::<32>()?),
            address: None,
            address_v6: None,
            link_local: wanted.link_local.clone(),
            gateway: None,
            gateway_v6: None,
            world_on_link: leads == Leads::OnLink,
            mac: Mac::default(),
            veth: if record.driver == Driver::Bridge {
                format!("{}{number:03x}", veth_prefix(guest.container))
            } else {
                String::new()
            },
            interface,
            aliases: wanted.aliases.clone(),
            dns_names: wanted.dns_names.clone(),
            links: wanted.links.clone(),
            gw_priority: wanted.gw_priority,
            driver_options: wanted.driver_options.clone(),
        };
        if let Err(error) = address(network, driver, wanted, &mut endpoint) {
            release(state, std::slice::from_ref(&endpoint));
            return Err(error);
        }
        if let Some(bridge) = &network.record.bridge {
            endpoint.gateway = endpoint.gateway.map(|own| bridge.next_hop.unwrap_or(own));
            endpoint.gateway_v6 = endpoint
                .gateway_v6
                .map(|own| bridge.next_hop_v6.unwrap_or(own));
        }
        Ok(endpoint)
    }
}

fn four(address: Option<IpAddr>) -> Option<std::net::Ipv4Addr> {
    match address? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn six(address: Option<IpAddr>) -> Option<std::net::Ipv6Addr> {
    match address? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

fn driver_of(network: &Network) -> Result<&'static dyn NetworkDriver, NetworkError> {
    let record = &network.record;
    if record.config_only {
        let text = format!("{} is a configuration-only network", record.name);
        return Err(NetworkError::Forbidden(text));
    }
    drivers::of(record.driver).ok_or_else(|| {
        let name = &record.name;
        let text = format!("network {name} cannot be combined with others or made a sandbox of");
        NetworkError::Invalid(text)
    })
}

/// Takes the addresses of an endpoint; what it has of them stays taken, also after a failure.
fn address(
    network: &mut Network,
    driver: &dyn NetworkDriver,
    wanted: &EndpointRequest,
    endpoint: &mut EndpointRecord,
) -> Result<(), NetworkError> {
    let through_gateway = driver.leads_out(&network.record) == Leads::ThroughGateway;
    let taken = take(network, false, wanted.address, &wanted.former)?;
    if let Some((IpAddr::V4(address), gateway)) = taken {
        endpoint.address = Some(address);
        endpoint.gateway = four(gateway).filter(|_| through_gateway);
    }
    let taken = take(network, true, wanted.address_v6, &wanted.former)?;
    if let Some((IpAddr::V6(address), gateway)) = taken {
        endpoint.address_v6 = Some(address);
        endpoint.gateway_v6 = six(gateway).filter(|_| through_gateway);
    }
    let address = endpoint.address.map(IpAddr::V4);
    let address = address.or(endpoint.address_v6.map(IpAddr::V6));
    endpoint.mac = driver.mac(wanted.mac, address)?;
    Ok(())
}

/// Takes an address of one family, with the gateway of its subnet; `None` when the network has no such subnet.
fn take(
    network: &mut Network,
    ipv6: bool,
    wanted: Option<IpAddr>,
    former: &[IpAddr],
) -> Result<Option<(IpAddr, Option<IpAddr>)>, NetworkError> {
    let pools = network.record.pools.iter().zip(&mut network.addresses);
    let mut pools: Vec<_> = pools
        .filter(|(pool, _)| pool.subnet.addr().is_ipv6() == ipv6)
        .collect();
    if let Some(wanted) = wanted {
        for (pool, addresses) in &mut pools {
            if pool.subnet.contains(&wanted) {
                let free = addresses.reserve(wanted);
                let got = free.then_some(Some((wanted, pool.gateway)));
                return got.ok_or(NetworkError::AddressInUse);
            }
        }
        let text = format!("no configured subnet or ip-range contain the IP address {wanted}");
        return Err(NetworkError::Invalid(text));
    }
    if pools.is_empty() {
        return Ok(None);
    }
    for (pool, addresses) in &mut pools {
        let again = former.iter().find(|former| addresses.reserve(**former));
        if let Some(address) = again.copied().or_else(|| addresses.take()) {
            return Ok(Some((address, pool.gateway)));
        }
    }
    Err(NetworkError::NoAddress {
        family: if ipv6 { "IPv6" } else { "IPv4" },
        name: network.record.name.clone(),
        id: network.record.id.to_string(),
    })
}

/// What the user asked for, else the network's prefix with the first free number.
fn interface_name(prefix: &str, wanted: &EndpointRequest, others: &[EndpointRecord]) -> String {
    if let Some(name) = Options(&wanted.driver_options).text(INTERFACE_NAME) {
        return name.to_owned();
    }
    let taken = |name: &String| others.iter().any(|other| other.interface == *name);
    let mut names = (0..).map(|number: u32| format!("{prefix}{number}"));
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// In which order the networks of a request are joined: by priority, then by name, so that `eth0` has the default route.
pub(super) fn in_order(
    endpoints: &BTreeMap<String, EndpointRequest>,
) -> Vec<(&String, &EndpointRequest)> {
    let mut order: Vec<_> = endpoints.iter().collect();
    order.sort_by_key(|(name, wanted)| (Reverse(wanted.gw_priority), *name));
    order
}

/// The interface of an endpoint.
pub(super) fn interface(
    state: &State,
    endpoint: &EndpointRecord,
    publishes: bool,
) -> Result<Interface, NetworkError> {
    let network = state.networks.get(&endpoint.network);
    let network = network.ok_or_else(|| NetworkError::NotFound(endpoint.network_name.clone()))?;
    let place = Place {
        network: &network.record,
        interface: network.interface,
        publishes,
    };
    let own = endpoint.addresses();
    let mut addresses: Vec<IpNet> = own.filter_map(|one| with_prefix(network, one)).collect();
    addresses.extend(endpoint.link_local.iter().filter_map(|address| {
        let length = if address.is_ipv4() { 16 } else { 64 };
        IpNet::new(*address, length).ok()
    }));
    Ok(Interface {
        name: endpoint.interface.clone(),
        mac: endpoint.mac,
        addresses,
        mtu: network.record.mtu,
        attachment: driver_of(network)?.attachment(&place, endpoint),
        sysctls: sysctls(endpoint)?,
    })
}

/// The settings of an endpoint as paths below `/proc/sys/net/`.
fn sysctls(endpoint: &EndpointRecord) -> Result<Vec<(String, String)>, NetworkError> {
    let settings = check_sysctls(&endpoint.driver_options)?.into_iter();
    let named = settings.map(|(path, value)| (path.replace("IFNAME", &endpoint.interface), value));
    Ok(named.collect())
}

/// Reads `net.ipv4.conf.IFNAME.log_martians=1,...` into paths with `IFNAME` in them.
pub(super) fn check_sysctls(
    options: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, NetworkError> {
    let text = Options(options).text(SYSCTLS).unwrap_or_default();
    let parts = text.split(',').filter(|part| !part.is_empty());
    let parts = parts.map(|part| {
        let wrong = || {
            let text = format!("unable to set endpoint sysctl {part}: must be net.X.Y.IFNAME.Z=V");
            NetworkError::Invalid(text)
        };
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let words: Vec<&str> = name.trim().split('.').collect();
        match words[..] {
            [
                "net",
                family @ ("ipv4" | "ipv6" | "mpls"),
                kind,
                "IFNAME" | "ifname",
                setting,
            ] if !words.iter().any(|word| word.contains('/')) => {
                let path = format!("{family}/{kind}/IFNAME/{setting}");
                Ok((path, value.trim().to_owned()))
            }
            _ => Err(wrong()),
        }
    });
    parts.collect()
}

fn with_prefix(network: &Network, address: IpAddr) -> Option<IpNet> {
    let mut pools = network.record.pools.iter();
    let pool = pools.find(|pool| pool.subnet.contains(&address))?;
    IpNet::new(address, pool.subnet.prefix_len()).ok()
}

/// The default routes of a sandbox.
pub(super) fn defaults(record: &SandboxRecord) -> Defaults {
    let (four, six) = record.gateways();
    Defaults {
        four: four.map(|endpoint| Way {
            interface: endpoint.interface.clone(),
            gateway: endpoint.gateway.map(IpAddr::V4),
        }),
        six: six.map(|endpoint| Way {
            interface: endpoint.interface.clone(),
            gateway: endpoint.gateway_v6.map(IpAddr::V6),
        }),
    }
}

/// Gives addresses back.
pub(super) fn release(state: &mut State, endpoints: &[EndpointRecord]) {
    for endpoint in endpoints {
        let Some(network) = state.networks.get_mut(&endpoint.network) else {
            continue;
        };
        for address in endpoint.addresses() {
            if let Some(addresses) = network.addresses_of(address) {
                addresses.release(address);
            }
        }
    }
}

/// What clients see of an endpoint.
pub(super) fn shown(state: &State, endpoint: &EndpointRecord) -> Endpoint {
    let network = state.networks.get(&endpoint.network);
    let net = |address: IpAddr| network.and_then(|network| with_prefix(network, address));
    Endpoint {
        network_id: endpoint.network,
        network: endpoint.network_name.clone(),
        endpoint_id: endpoint.id.clone(),
        gateway: endpoint.gateway.map(IpAddr::V4),
        address: endpoint.address.and_then(|address| net(address.into())),
        gateway_v6: endpoint.gateway_v6.map(IpAddr::V6),
        address_v6: endpoint.address_v6.and_then(|address| net(address.into())),
        mac: if endpoint.mac == Mac::default() {
            String::new()
        } else {
            mac_text(endpoint.mac)
        },
    }
}

/// `02:00:...`.
fn mac_text(mac: Mac) -> String {
    let digits: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}
