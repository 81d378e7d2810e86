//! `--network`, and the flags that belong to the first network.

use cais_types::api::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::{Result, csv};
use cais_console::flags::{Parsed, parse_int};

/// Network mode and endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Name of the first network.
    pub mode: String,
    /// What is asked of each endpoint.
    pub config: NetworkingConfig,
}

/// Checks one `--network`.
///
/// # Errors
/// As [`attachment`].
pub fn check(text: &str) -> Result<()> {
    attachment(text).map(drop)
}

/// Reads one `--network`: a name, or `name=...,alias=...,ip=...`.
///
/// # Errors
/// Docker's text for an unknown key or a bad value.
pub fn attachment(text: &str) -> Result<(String, EndpointSettings)> {
    let mut endpoint = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), endpoint));
    }
    let mut name = String::new();
    for field in csv::fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut name),
            "alias" => endpoint
                .aliases
                .get_or_insert_default()
                .push(value.to_owned()),
            "ip" => value.clone_into(&mut ipam(&mut endpoint).ipv4_address),
            "ip6" => value.clone_into(&mut ipam(&mut endpoint).ipv6_address),
            "mac-address" => endpoint.mac_address = mac(value)?,
            "link-local-ip" => ipam(&mut endpoint).link_local_ips.push(value.to_owned()),
            "driver-opt" => {
                let Some((key, value)) = value.split_once('=') else {
                    return Err("invalid key value pair format in driver options".into());
                };
                let options = endpoint.driver_opts.get_or_insert_default();
                options.insert(key.to_ascii_lowercase(), value.to_owned());
            }
            "gw-priority" => {
                endpoint.gw_priority = parse_int(value)
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    Ok((name, endpoint))
}

fn ipam(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_default()
}

fn mac(text: &str) -> Result<String> {
    let text = text.trim();
    let digits =
        |group: &str, length| group.len() == length && group.bytes().all(|b| b.is_ascii_hexdigit());
    let colons = |separator| {
        let groups: Vec<&str> = text.split(separator).collect();
        matches!(groups.len(), 6 | 8 | 20) && groups.iter().all(|group| digits(group, 2))
    };
    let dots = || {
        let groups: Vec<&str> = text.split('.').collect();
        matches!(groups.len(), 3 | 4 | 10) && groups.iter().all(|group| digits(group, 4))
    };
    if colons(':') || colons('-') || dots() {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid mac address"))
    }
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "bridge" | "host" | "none" | "default") && !name.starts_with("container:")
}

/// Reads all network flags.
///
/// # Errors
/// Docker's text for networks that do not go together.
pub fn parse(args: &Parsed) -> Result<Networks> {
    let mut networks = Networks::default();
    let mut given = args.list("network");
    if given.is_empty() {
        given.push("default".into());
    }
    let (mut user_defined, mut built_in) = (false, false);
    for (number, text) in given.iter().enumerate() {
        let (name, mut endpoint) = attachment(text)?;
        if name.is_empty() {
            return Err("no name set for network".into());
        }
        if is_user_defined(&name) {
            user_defined = true;
        } else {
            built_in = true;
        }
        if number == 0 {
            container_flags(args, &mut endpoint)?;
            networks.mode.clone_from(&name);
        }
        if networks
            .config
            .endpoints_config
            .insert(name.clone(), endpoint)
            .is_some()
        {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    if user_defined && built_in {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
        );
    }
    Ok(networks)
}

/// Flags without a network of their own go to the first one.
fn container_flags(args: &Parsed, endpoint: &mut EndpointSettings) -> Result<()> {
    let conflict = |what: &str| Err(format!("conflicting options: cannot specify both {what}"));
    let aliases = args.list("network-alias");
    if !aliases.is_empty() {
        if endpoint.aliases.is_some() {
            return conflict("--network-alias and per-network alias");
        }
        endpoint.aliases = Some(aliases);
    }
    let links = args.list("link");
    if !links.is_empty() {
        endpoint.links = Some(links);
    }
    let addresses = endpoint.ipam_config.clone().unwrap_or_default();
    if let Some(address) = args.value("ip").filter(|address| !address.is_empty()) {
        if !addresses.ipv4_address.is_empty() {
            return conflict("--ip and per-network IPv4 address");
        }
        address.clone_into(&mut ipam(endpoint).ipv4_address);
    }
    if let Some(address) = args.value("ip6").filter(|address| !address.is_empty()) {
        if !addresses.ipv6_address.is_empty() {
            return conflict("--ip6 and per-network IPv6 address");
        }
        address.clone_into(&mut ipam(endpoint).ipv6_address);
    }
    if let Some(address) = args
        .value("mac-address")
        .filter(|address| !address.is_empty())
    {
        if !endpoint.mac_address.is_empty() {
            return conflict("--mac-address and per-network MAC address");
        }
        endpoint.mac_address = mac(address)?;
    }
    let link_local = args.list("link-local-ip");
    if !link_local.is_empty() {
        if !addresses.link_local_ips.is_empty() {
            return conflict("--link-local-ip and per-network link-local IP addresses");
        }
        ipam(endpoint).link_local_ips = link_local;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::CONTAINER_FLAGS;

    fn read(args: &[&str]) -> Result<Networks> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        parse(&cais_console::flags::parse(&[CONTAINER_FLAGS], &args, false).unwrap())
    }

    #[test]
    fn nothing_said_is_the_default_network() {
        let networks = read(&[]).unwrap();
        assert_eq!(networks.mode, "default");
        assert_eq!(
            networks.config.endpoints_config["default"],
            EndpointSettings::default()
        );
    }

    #[test]
    fn long_form_and_container_flags() {
        let networks = read(&[
            "--network",
            "name=a,alias=x,ip=10.0.0.5,gw-priority=2",
            "--mac-address",
            "92:d0:c6:0a:29:33",
        ])
        .unwrap();
        let endpoint = &networks.config.endpoints_config["a"];
        assert_eq!(endpoint.aliases.as_deref(), Some(&["x".to_owned()][..]));
        assert_eq!(
            endpoint.ipam_config.as_ref().unwrap().ipv4_address,
            "10.0.0.5"
        );
        assert_eq!(
            (endpoint.gw_priority, endpoint.mac_address.as_str()),
            (2, "92:d0:c6:0a:29:33")
        );
    }

    #[test]
    fn errors_are_dockers() {
        // Recorded from docker 28.2.2.
        let cases: &[(&[&str], &str)] = &[
            (
                &["--network", "name=a", "--network", "name=a"],
                "network \"a\" is specified multiple times",
            ),
            (
                &["--network", "a", "--network", "host"],
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (&["--network", ""], "no name set for network"),
            (&["--mac-address", "x"], "x is not a valid mac address"),
        ];
        for (args, want) in cases {
            assert_eq!(read(args).unwrap_err(), *want);
        }
        assert_eq!(check("foo=1").unwrap_err(), "invalid field key foo");
    }
}
