//! Addresses and subnets: pure arithmetic over what is free.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The free addresses of one subnet, as runs; every call costs the logarithm of their number.
#[derive(Clone, Debug)]
pub struct Addresses {
    subnet: IpNet,
    range: IpNet,
    /// First and last address of each run.
    free: BTreeMap<u128, u128>,
}

impl Addresses {
    /// All free but the network's own and the broadcast address; endpoints come from `range`.
    pub fn new(subnet: IpNet, range: Option<IpNet>) -> Self {
        let (mut first, mut last) = (number(subnet.network()), number(subnet.broadcast()));
        if last - first > 1 {
            first += 1;
            last -= u128::from(subnet.addr().is_ipv4());
        }
        Self {
            subnet,
            range: range.unwrap_or(subnet),
            free: [(first, last)].into(),
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Takes the lowest free address of the range; `None` when all are used.
    pub fn take(&mut self) -> Option<IpAddr> {
        let (low, high) = (number(self.range.network()), number(self.range.broadcast()));
        let here = self.run_with(low).map(|_| low);
        let next = || self.free.range(low..=high).next().map(|(first, _)| *first);
        let taken = here.or_else(next)?;
        self.cut(taken);
        Some(self.address(taken))
    }

    /// Takes one address; `false` when it is used or not in the subnet.
    pub fn reserve(&mut self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && self.cut(number(address))
    }

    /// Gives an address back.
    pub fn release(&mut self, address: IpAddr) {
        let address = number(address);
        if self.run_with(address).is_some() {
            return;
        }
        let (mut first, mut last) = (address, address);
        if let Some(end) = address
            .checked_add(1)
            .and_then(|next| self.free.remove(&next))
        {
            last = end;
        }
        let before = self.free.range(..address).next_back();
        if let Some((start, end)) = before.map(|(start, end)| (*start, *end))
            && end.checked_add(1) == Some(address)
        {
            first = start;
        }
        self.free.insert(first, last);
    }

    /// The free run that an address is in.
    fn run_with(&self, address: u128) -> Option<(u128, u128)> {
        let (first, last) = self.free.range(..=address).next_back()?;
        (address <= *last).then_some((*first, *last))
    }

    fn cut(&mut self, address: u128) -> bool {
        let Some((first, last)) = self.run_with(address) else {
            return false;
        };
        self.free.remove(&first);
        if first < address {
            self.free.insert(first, address - 1);
        }
        if address < last {
            self.free.insert(address + 1, last);
        }
        true
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            // A number of an IPv4 subnet fits.
            IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Whether two subnets share addresses.
pub fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(right) || right.contains(left)
}

/// The first subnet of the pools (each with the prefix length of its parts) that is of the same family as asked for and
/// overlaps none of those in use.
pub fn free_subnet(pools: &[(IpNet, u8)], used: &[IpNet], ipv6: bool) -> Option<IpNet> {
    let taken = |subnet: &IpNet| {
        let mut nets = used.iter().filter(|net| net.prefix_len() > 0);
        nets.any(|net| overlap(net, subnet))
    };
    pools
        .iter()
        .filter(|(pool, _)| matches!(pool, IpNet::V6(_)) == ipv6)
        .filter_map(|(pool, size)| pool.subnets(*size).ok())
        .flatten()
        .find(|subnet| !taken(subnet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lowest_free_address_comes_first_and_the_subnet_ends() {
        let mut addresses = Addresses::new("10.0.0.0/29".parse().unwrap(), None);
        assert!(addresses.reserve(address("10.0.0.1")));
        let taken: Vec<_> = (0..5).map(|_| addresses.take().unwrap()).collect();
        assert_eq!(taken[0], address("10.0.0.2"));
        assert_eq!(taken[4], address("10.0.0.6"));
        assert_eq!(addresses.take(), None);
        addresses.release(taken[1]);
        addresses.release(taken[1]);
        assert_eq!(addresses.take(), Some(taken[1]));
        assert_eq!(addresses.take(), None);
        assert!(!addresses.reserve(address("10.0.1.1")));
        for one in &taken {
            addresses.release(*one);
        }
        assert_eq!(addresses.free.len(), 1, "runs grow together again");
    }

    #[test]
    fn addresses_come_from_the_range() {
        let range = Some("10.0.0.128/31".parse().unwrap());
        let mut addresses = Addresses::new("10.0.0.0/24".parse().unwrap(), range);
        assert_eq!(addresses.take(), Some(address("10.0.0.128")));
        assert_eq!(addresses.take(), Some(address("10.0.0.129")));
        assert_eq!(addresses.take(), None);
    }

    #[test]
    fn a_large_subnet_costs_no_more_than_a_small_one() {
        let mut addresses = Addresses::new("fd00::/64".parse().unwrap(), None);
        assert_eq!(addresses.take(), Some(address("fd00::1")));
        assert!(addresses.reserve(address("fd00::ffff:0:0:1")));
        assert!(!addresses.reserve(address("fd00::ffff:0:0:1")));
        assert_eq!(addresses.take(), Some(address("fd00::2")));
        for _ in 0..10_000 {
            addresses.take().unwrap();
        }
        assert_eq!(addresses.free.len(), 2);
    }

    #[test]
    fn subnets_in_use_and_host_routes_are_avoided() {
        let pools = crate::Config::default().pools;
        let none: &[IpNet] = &["0.0.0.0/0".parse().unwrap()];
        let first = free_subnet(&pools, none, false).unwrap();
        assert_eq!(first.to_string(), "172.17.0.0/16");
        let used = [
            "172.17.3.0/24".parse().unwrap(),
            "172.18.0.0/25".parse().unwrap(),
        ];
        let next = free_subnet(&pools, &used, false).unwrap();
        assert_eq!(next.to_string(), "172.18.1.0/24");
        assert_eq!(free_subnet(&pools, &[], true), None);
    }
}
