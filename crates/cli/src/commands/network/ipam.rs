//! Puts subnets, ranges, gateways and reserved addresses of `network create` together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cais_types::api::IpamConfig;

/// What the flags say.
pub(super) struct Asked {
    /// `--subnet`.
    pub subnets: Vec<String>,
    /// `--ip-range`.
    pub ranges: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<String>,
    /// `--aux-address`.
    pub auxiliary: BTreeMap<String, String>,
}

/// An address range.
#[derive(Clone, Copy)]
struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        (bits <= widest).then_some(Self { address, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let same = |left: u128, right: u128, width: u8| {
            let shift = u32::from(width - self.bits);
            left.checked_shr(shift) == right.checked_shr(shift)
        };
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                same(net.to_bits().into(), address.to_bits().into(), 32)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => same(net.to_bits(), address.to_bits(), 128),
            _ => false,
        }
    }
}

impl Asked {
    /// One entry per subnet.
    ///
    /// # Errors
    /// Docker's text for what does not fit together.
    pub(super) fn configs(&self) -> Result<Vec<IpamConfig>, String> {
        if self.subnets.len() < self.ranges.len() || self.subnets.len() < self.gateways.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".into());
        }
        let mut configs: Vec<IpamConfig> = Vec::new();
        for subnet in &self.subnets {
            for other in &configs {
                if matches(subnet, &other.subnet)? || matches(&other.subnet, subnet)? {
                    return Err("multiple overlapping subnet configuration is not supported".into());
                }
            }
            configs.push(IpamConfig {
                subnet: subnet.clone(),
                ..IpamConfig::default()
            });
        }
        for range in &self.ranges {
            let config = find(&mut configs, range)?
                .ok_or_else(|| format!("no matching subnet for range {range}"))?;
            if !config.ip_range.is_empty() {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                    config.ip_range, config.subnet
                ));
            }
            config.ip_range.clone_from(range);
        }
        for gateway in &self.gateways {
            let config = find(&mut configs, gateway)?
                .ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
            if !config.gateway.is_empty() {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                    config.gateway, config.subnet
                ));
            }
            config.gateway.clone_from(gateway);
        }
        for (name, address) in &self.auxiliary {
            let config = find(&mut configs, address)?
                .ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
            config
                .auxiliary_addresses
                .insert(name.clone(), address.clone());
        }
        Ok(configs)
    }
}

fn find<'a>(
    configs: &'a mut [IpamConfig],
    address: &str,
) -> Result<Option<&'a mut IpamConfig>, String> {
    for config in configs {
        if matches(&config.subnet, address)? {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// Whether an address, or the address of a range, is inside a subnet.
fn matches(subnet: &str, address: &str) -> Result<bool, String> {
    let net = Net::parse(subnet).ok_or_else(|| format!("invalid CIDR address: {subnet}"))?;
    let address = match Net::parse(address) {
        Some(range) => Some(range.address),
        None => address.parse().ok(),
    };
    Ok(address.is_some_and(|address| net.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnets: &[&str], ranges: &[&str], gateways: &[&str]) -> Asked {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Asked {
            subnets: list(subnets),
            ranges: list(ranges),
            gateways: list(gateways),
            auxiliary: BTreeMap::new(),
        }
    }

    #[test]
    fn gateways_find_their_subnets() {
        let mut asked = asked(
            &["10.1.0.0/16", "fd00::/64"],
            &["10.1.2.0/24"],
            &["fd00::1", "10.1.0.254"],
        );
        asked.auxiliary.insert("host".into(), "10.1.0.5".into());
        let configs = asked.configs().unwrap();
        assert_eq!(configs[0].gateway, "10.1.0.254");
        assert_eq!(configs[0].ip_range, "10.1.2.0/24");
        assert_eq!(configs[0].auxiliary_addresses["host"], "10.1.0.5");
        assert_eq!(configs[1].gateway, "fd00::1");
    }

    #[test]
    fn errors_are_dockers() {
        let said = |subnets: &[&str], ranges: &[&str], gateways: &[&str]| {
            asked(subnets, ranges, gateways).configs().unwrap_err()
        };
        assert_eq!(
            said(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[]),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(
            said(&[], &[], &["1.2.3.4"]),
            "every ip-range or gateway must have a corresponding subnet"
        );
        assert_eq!(
            said(&["10.0.0.0/8"], &[], &["1.2.3.4"]),
            "no matching subnet for gateway 1.2.3.4"
        );
        assert_eq!(
            said(&["10.0.0.0/8"], &["11.0.0.0/16"], &[]),
            "no matching subnet for range 11.0.0.0/16"
        );
    }
}
