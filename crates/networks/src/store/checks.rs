//! Checks of what is wanted of an endpoint, before anything is made, with Docker's texts.

use std::net::IpAddr;

use cais_types::NetworkId;
use cais_types::api::{EndpointIpamConfig, EndpointSettings};

use crate::error::NetworkError;

use super::Store;
use super::endpoints::check_sysctls;
use super::records::{Driver, NetworkRecord};

/// What callers must know of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Driver,
}

impl Store {
    /// Finds a network by name, id or unique id prefix.
    pub fn facts(&self, network: &str) -> Result<Facts, NetworkError> {
        let state = self.lock();
        state.find(network).map(|found| facts(&found.record))
    }

    /// Checks what is wanted of an endpoint on a network.
    pub fn check_endpoint(
        &self,
        network: &str,
        asked: &EndpointSettings,
    ) -> Result<Facts, NetworkError> {
        let state = self.lock();
        let record = &state.find(network)?.record;
        let errors = mistakes(record, asked);
        let text = match &errors[..] {
            [] => return Ok(facts(record)),
            [one] => one.clone(),
            many => format!("* {}", many.join("\n* ")),
        };
        Err(NetworkError::Invalid(format!(
            "invalid endpoint settings:\n{text}"
        )))
    }
}

fn facts(record: &NetworkRecord) -> Facts {
    Facts {
        id: record.id,
        name: record.name.clone(),
        driver: record.driver,
    }
}

fn mistakes(record: &NetworkRecord, asked: &EndpointSettings) -> Vec<String> {
    let ipam = asked.ipam_config.clone().unwrap_or_default();
    let mut errors = Vec::new();
    if !record.is_user_defined() {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            let text = "user specified IP address is supported on user defined networks only";
            errors.push(text.to_owned());
        }
        if asked.aliases.iter().any(|aliases| !aliases.is_empty()) {
            let text =
                "network-scoped alias is supported only for containers in user defined networks";
            errors.push(text.to_owned());
        }
    }
    errors.extend(wrong_addresses(&ipam));
    for (ipv6, text) in [(false, &ipam.ipv4_address), (true, &ipam.ipv6_address)] {
        errors.extend(out_of_range(record, ipv6, text));
    }
    let options = asked.driver_opts.clone().unwrap_or_default();
    errors.extend(check_sysctls(&options).err().map(|error| error.to_string()));
    errors
}

fn wrong_addresses(ipam: &EndpointIpamConfig) -> impl Iterator<Item = String> {
    let parsed = |text: &str| text.parse::<IpAddr>().ok();
    let wrong = |what: &str, text: &str, fits: fn(&IpAddr) -> bool| {
        let fine = text.is_empty() || parsed(text).is_some_and(|address| fits(&address));
        (!fine).then(|| format!("invalid {what} address: {text}"))
    };
    let link_local: fn(&IpAddr) -> bool = |address| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let own = [
        wrong("IPv4", &ipam.ipv4_address, IpAddr::is_ipv4),
        wrong("IPv6", &ipam.ipv6_address, IpAddr::is_ipv6),
    ];
    let more = ipam.link_local_ips.iter();
    let more: Vec<_> = more
        .map(|text| wrong("link-local IP", text, link_local))
        .collect();
    own.into_iter().chain(more).flatten()
}

/// Addresses may be chosen only where the user chose the subnet.
fn out_of_range(record: &NetworkRecord, ipv6: bool, text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let mut chosen = record.pools_of(ipv6).filter(|pool| pool.chosen).peekable();
    if chosen.peek().is_none() {
        let text = "user specified IP address is supported only when connecting to networks with user configured subnets";
        return Some(text.to_owned());
    }
    let address: Option<IpAddr> = text.parse().ok();
    let inside = address.is_some_and(|address| chosen.any(|pool| pool.subnet.contains(&address)));
    (!inside).then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}
