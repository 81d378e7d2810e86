//! Addresses and subnets: pure arithmetic over what is used.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub struct Addresses {
    subnet: Ipv4Net,
    range: Ipv4Net,
    used: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// All free but the network's own and the broadcast address; endpoints come from `range`.
    pub fn new(subnet: Ipv4Net, range: Option<Ipv4Net>) -> Self {
        let used = [subnet.network(), subnet.broadcast()].into();
        Self {
            subnet,
            range: range.unwrap_or(subnet),
            used,
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// Takes the lowest free address; `None` when all are used.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let mut candidate = u32::from(self.range.network());
        for used in self
            .used
            .range(self.range.network()..=self.range.broadcast())
        {
            if u32::from(*used) != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        let address = Ipv4Addr::from(candidate);
        (self.range.contains(&address) && self.reserve(address)).then_some(address)
    }

    /// Takes one address; `false` when it is used or not in the subnet.
    pub fn reserve(&mut self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address) && self.used.insert(address)
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

/// The first subnet of the pools that overlaps none of those in use.
pub fn free_subnet(pools: &[(Ipv4Net, u8)], used: &[IpNet]) -> Option<Ipv4Net> {
    let overlaps = |subnet: &Ipv4Net| {
        used.iter().any(|net| match net {
            IpNet::V4(net) => {
                net.prefix_len() > 0 && (net.contains(subnet) || subnet.contains(net))
            }
            IpNet::V6(_) => false,
        })
    };
    pools
        .iter()
        .filter_map(|(pool, size)| pool.subnets(*size).ok())
        .flatten()
        .find(|subnet| !overlaps(subnet))
}

/// The first address of a subnet: its gateway unless another is wanted.
pub fn first_address(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(1))
}

/// The IPv4 part of an address.
pub fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_free_address_comes_first_and_the_subnet_ends() {
        let mut addresses = Addresses::new("10.0.0.0/29".parse().unwrap(), None);
        assert!(addresses.reserve("10.0.0.1".parse().unwrap()));
        let taken: Vec<_> = (0..5).map(|_| addresses.take().unwrap()).collect();
        assert_eq!(taken[0], Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(taken[4], Ipv4Addr::new(10, 0, 0, 6));
        assert_eq!(addresses.take(), None);
        addresses.release(taken[1]);
        assert_eq!(addresses.take(), Some(taken[1]));
        assert!(!addresses.reserve("10.0.1.1".parse().unwrap()));
    }

    #[test]
    fn addresses_come_from_the_range() {
        let range = Some("10.0.0.128/25".parse().unwrap());
        let mut addresses = Addresses::new("10.0.0.0/24".parse().unwrap(), range);
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 0, 0, 128)));
    }

    #[test]
    fn subnets_in_use_and_host_routes_are_avoided() {
        let pools = crate::Config::default().pools;
        let none: &[IpNet] = &["0.0.0.0/0".parse().unwrap()];
        assert_eq!(
            free_subnet(&pools, none).unwrap().to_string(),
            "172.17.0.0/16"
        );
        let used = [
            "172.17.3.0/24".parse().unwrap(),
            "172.18.0.0/25".parse().unwrap(),
        ];
        assert_eq!(
            free_subnet(&pools, &used).unwrap().to_string(),
            "172.18.1.0/24"
        );
    }
}
