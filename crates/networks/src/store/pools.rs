//! From the subnets that a user asks for to the pools of a network: checked as Docker checks them, chosen where the user
//! did not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use cais_state::Durability;
use ipnet::{IpNet, Ipv6Net};

use crate::bridge;
use crate::drivers::NetworkDriver;
use crate::error::NetworkError;
use crate::ipam::{self, Addresses};
use crate::netlink::{Socket, route};

use super::records::{NetworkRecord, Pool};
use super::{State, Store};

/// Bits of the subnets of IPv6 networks whose subnet nobody chose.
const IPV6_SUBNET: u8 = 64;

/// A subnet that a user asks for, as written; empty texts stand for what nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolRequest {
    /// `10.0.0.0/24`.
    pub subnet: String,
    /// `10.0.0.1`.
    pub gateway: String,
    /// `10.0.0.128/25`.
    pub range: String,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, String>,
}

impl PoolRequest {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Docker's list of what is wrong: a single text, or one line for each.
fn joined(errors: &[String]) -> Option<NetworkError> {
    let text = match errors {
        [] => return None,
        [one] => one.clone(),
        many => format!("* {}", many.join("\n* ")),
    };
    Some(NetworkError::Invalid(format!(
        "invalid network config:\n{text}"
    )))
}

fn family(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

fn same_family(net: &IpNet, address: IpAddr) -> bool {
    net.addr().is_ipv4() == address.is_ipv4()
}

/// Reads an address of a subnet; the error says only what is wrong with it.
fn address_in(text: &str, subnet: &IpNet) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if !same_family(subnet, address) {
        return Err(format!("parent subnet is an {} block", family(subnet)));
    }
    if !subnet.contains(&address) {
        return Err(format!(
            "parent subnet {subnet} doesn't contain this address"
        ));
    }
    Ok(Some(address))
}

fn range_in(text: &str, subnet: &IpNet, errors: &mut Vec<String>) -> Option<IpNet> {
    if text.is_empty() {
        return None;
    }
    let mut wrong = |why: String| errors.push(format!("invalid ip-range {why}"));
    let Ok(range) = text.parse::<IpNet>() else {
        wrong(format!("{text}: invalid CIDR block notation"));
        return None;
    };
    if !same_family(subnet, range.addr()) {
        wrong(format!(
            "{text}: parent subnet is an {} block",
            family(subnet)
        ));
        return None;
    }
    if range.prefix_len() < subnet.prefix_len() {
        wrong(format!(
            "{text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range != range.trunc() {
        wrong(format!("{range}: it should be {}", range.trunc()));
    }
    if !ipam::overlap(&range, subnet) {
        wrong(format!(
            "{text}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    Some(range)
}

/// The pools of a request: all of what is wrong is told at once. Subnets of a family that the network does not have are
/// left out, as Docker does.
pub(super) fn read(
    requests: &[PoolRequest],
    ipv4: bool,
    ipv6: bool,
) -> Result<Vec<Pool>, NetworkError> {
    let mut errors = Vec::new();
    let mut pools = Vec::new();
    for request in requests.iter().filter(|request| !request.is_empty()) {
        let Ok(subnet) = request.subnet.parse::<IpNet>() else {
            errors.push(format!(
                "invalid subnet {}: invalid CIDR block notation",
                request.subnet
            ));
            continue;
        };
        if (subnet.addr().is_ipv6() && !ipv6) || (subnet.addr().is_ipv4() && !ipv4) {
            continue;
        }
        if subnet != subnet.trunc() {
            errors.push(format!(
                "invalid subnet {subnet}: it should be {}",
                subnet.trunc()
            ));
        }
        let range = range_in(&request.range, &subnet, &mut errors);
        let gateway = address_in(&request.gateway, &subnet).unwrap_or_else(|why| {
            errors.push(format!("invalid gateway {}: {why}", request.gateway));
            None
        });
        let mut auxiliary = BTreeMap::new();
        for (name, text) in &request.auxiliary {
            match address_in(text, &subnet) {
                Ok(address) => auxiliary.extend(address.map(|address| (name.clone(), address))),
                Err(why) => errors.push(format!("invalid auxiliary address {name}: {why}")),
            }
        }
        pools.push(Pool {
            subnet,
            gateway,
            range,
            auxiliary,
            chosen: true,
        });
    }
    joined(&errors).map_or(Ok(pools), Err)
}

impl Store {
    /// The pools of a new network.
    pub(super) fn pools(
        &self,
        state: &State,
        record: &NetworkRecord,
        requests: &[PoolRequest],
        driver: &dyn NetworkDriver,
    ) -> Result<Vec<Pool>, NetworkError> {
        let mut asked = read(requests, record.ipv4, record.ipv6)?;
        let mut pools: Vec<Pool> = Vec::new();
        for (on, ipv6) in [(record.ipv4, false), (record.ipv6, true)] {
            if !on {
                continue;
            }
            let fits = |pool: &Pool| pool.subnet.addr().is_ipv6() == ipv6;
            let (mut mine, rest): (Vec<Pool>, Vec<Pool>) = asked.into_iter().partition(fits);
            asked = rest;
            if mine.is_empty() {
                mine.push(self.default_pool(state, &pools, ipv6)?);
            }
            if mine.len() > driver.subnets() {
                let text = format!(
                    "{} driver doesn't support multiple subnets",
                    record.driver.name()
                );
                return Err(NetworkError::Forbidden(text));
            }
            pools.append(&mut mine);
        }
        check_overlap(state, &pools)?;
        for pool in &mut pools {
            gateway(pool)?;
        }
        Ok(pools)
    }

    fn default_pool(&self, state: &State, own: &[Pool], ipv6: bool) -> Result<Pool, NetworkError> {
        let mut used = used(state)?;
        used.extend(own.iter().map(|pool| pool.subnet));
        Ok(Pool {
            subnet: self.free_subnet(&used, ipv6)?,
            gateway: None,
            range: None,
            auxiliary: BTreeMap::new(),
            chosen: false,
        })
    }

    /// A subnet of the daemon's ranges that overlaps none of these.
    pub(super) fn free_subnet(&self, used: &[IpNet], ipv6: bool) -> Result<IpNet, NetworkError> {
        let pools = &self.config.pools;
        let found = ipam::free_subnet(pools, used, ipv6);
        if found.is_some() || !ipv6 {
            return found.ok_or(NetworkError::NoSubnet);
        }
        let own = [(self.unique_local()?, IPV6_SUBNET)];
        ipam::free_subnet(&own, used, true).ok_or(NetworkError::NoSubnet)
    }

    /// The daemon's own range of unique local addresses (RFC 4193 §3.2): drawn once, kept.
    fn unique_local(&self) -> Result<IpNet, NetworkError> {
        let (table, key) = ("daemon", "unique-local");
        if let Some(range) = self.db.get::<Ipv6Net>(table, key)? {
            return Ok(range.into());
        }
        let global: [u8; 5] = bridge::random()?;
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..6].copy_from_slice(&global);
        let range = Ipv6Net::new_assert(Ipv6Addr::from(bytes), 48);
        self.db.put(Durability::Power, table, key, &range)?;
        Ok(range.into())
    }
}

/// Subnets that another network or a route of the host uses.
pub(super) fn used(state: &State) -> Result<Vec<IpNet>, NetworkError> {
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let routes = route::routes(&socket).map_err(NetworkError::during("route list"))?;
    let routes = routes.into_iter().map(|route| route.destination);
    Ok(routes.chain(of_networks(state)).collect())
}

fn of_networks(state: &State) -> impl Iterator<Item = IpNet> {
    // A configuration for other networks takes nothing itself.
    let networks = state.networks.values();
    let networks = networks.filter(|one| !one.record.config_only);
    networks.flat_map(|one| one.record.pools.iter().map(|pool| pool.subnet))
}

fn check_overlap(state: &State, pools: &[Pool]) -> Result<(), NetworkError> {
    for (index, pool) in pools.iter().enumerate() {
        let before = pools[..index].iter().map(|other| other.subnet);
        let mut taken = of_networks(state).chain(before);
        if taken.any(|other| ipam::overlap(&other, &pool.subnet)) {
            let text = "invalid pool request: Pool overlaps with other one on this address space";
            return Err(NetworkError::Forbidden(text.to_owned()));
        }
    }
    Ok(())
}

/// The gateway is the first address of the range, unless the user chose one.
fn gateway(pool: &mut Pool) -> Result<(), NetworkError> {
    if pool.gateway.is_none() {
        let mut addresses = Addresses::new(pool.subnet, pool.range);
        pool.gateway = addresses.take();
    }
    let used = |(name, address): (&String, &IpAddr)| {
        let text = format!(
            "failed to allocate secondary ip address ({name}:{address}): Address already in use"
        );
        NetworkError::Forbidden(text)
    };
    let mut auxiliary = pool.auxiliary.iter();
    match auxiliary.find(|(_, address)| Some(**address) == pool.gateway) {
        Some(taken) => Err(used(taken)),
        None => Ok(()),
    }
}

/// What is free in a pool before anybody has an address.
pub(super) fn addresses(pool: &Pool) -> Addresses {
    let mut addresses = Addresses::new(pool.subnet, pool.range);
    for address in pool.gateway.iter().chain(pool.auxiliary.values()) {
        addresses.reserve(*address);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut PoolRequest)) -> String {
        let mut request = PoolRequest {
            subnet: "10.1.0.0/24".into(),
            ..PoolRequest::default()
        };
        change(&mut request);
        read(&[request], true, true).unwrap_err().to_string()
    }

    #[test]
    fn wrong_subnets_are_told_in_dockers_words() {
        assert_eq!(
            refused(|pool| pool.subnet = "10.1.0.0".into()),
            "invalid network config:\ninvalid subnet 10.1.0.0: invalid CIDR block notation"
        );
        assert_eq!(
            refused(|pool| pool.subnet = "10.1.0.5/24".into()),
            "invalid network config:\ninvalid subnet 10.1.0.5/24: it should be 10.1.0.0/24"
        );
        assert_eq!(
            refused(|pool| pool.gateway = "10.2.0.1".into()),
            "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
        );
        assert_eq!(
            refused(|pool| {
                pool.range = "fd00::/80".into();
                pool.auxiliary = [("a".to_owned(), "x".to_owned())].into();
            }),
            "invalid network config:\n* invalid ip-range fd00::/80: parent subnet is an IPv4 block\n\
             * invalid auxiliary address a: invalid address"
        );
        assert_eq!(
            refused(|pool| pool.range = "10.0.0.0/8".into()),
            "invalid network config:\ninvalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/24"
        );
    }

    #[test]
    fn subnets_of_a_family_that_is_off_are_left_out() {
        let six = PoolRequest {
            subnet: "fd00:1::/64".into(),
            ..PoolRequest::default()
        };
        let none = PoolRequest::default();
        assert_eq!(read(&[six.clone(), none], true, false).unwrap(), []);
        assert_eq!(read(&[six], true, true).unwrap().len(), 1);
    }
}
