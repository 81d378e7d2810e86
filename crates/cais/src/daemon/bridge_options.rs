//! The flags of the daemon about the default bridge and about what networks have that say nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use clap::{ArgAction, Args};
use ipnet::Ipv6Net;

/// The default bridge beyond its IPv4 subnet.
#[derive(Debug, Args)]
pub struct BridgeOptions {
    /// Enable IPv6 networking for the default bridge network
    #[arg(long)]
    ipv6: bool,
    /// IPv6 address (CIDR) for the default bridge
    #[arg(long, value_name = "string")]
    bip6: Option<Ipv6Net>,
    /// IPv6 subnet for the default bridge network
    #[arg(long, value_name = "string")]
    fixed_cidr_v6: Option<Ipv6Net>,
    /// Default gateway IPv4 address for the default bridge network
    #[arg(long, value_name = "ip")]
    default_gateway: Option<Ipv4Addr>,
    /// Default gateway IPv6 address for the default bridge network
    #[arg(long, value_name = "ip")]
    default_gateway_v6: Option<Ipv6Addr>,
    /// Default network options: DRIVER=OPTION=VALUE
    #[arg(long = "default-network-opt", value_name = "mapmap")]
    default_network_options: Vec<String>,
    /// Enable IP masquerading for the default bridge network
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    ip_masq: bool,
    /// Enable IP forwarding in system configuration
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    ip_forward: bool,
}

impl BridgeOptions {
    /// Puts the flags into the configuration of the network store.
    ///
    /// # Errors
    /// A network option that is none.
    pub fn apply(&self, config: &mut cais_networks::Config) -> Result<()> {
        config.ipv6 = self.ipv6;
        config.bip_v6 = self.bip6;
        config.fixed_cidr_v6 = self.fixed_cidr_v6;
        config.default_gateway = self.default_gateway;
        config.default_gateway_v6 = self.default_gateway_v6;
        config.masquerade = self.ip_masq;
        config.ip_forward = self.ip_forward;
        for text in &self.default_network_options {
            let mut parts = text.splitn(3, '=');
            let (driver, option) = (parts.next(), parts.next());
            let parsed = driver.zip(option).zip(parts.next());
            let ((driver, option), value) = parsed.with_context(|| {
                format!("invalid default network option {text:?}: want DRIVER=OPTION=VALUE")
            })?;
            let options: &mut BTreeMap<_, _> = config
                .default_network_options
                .entry(driver.to_owned())
                .or_default();
            options.insert(option.to_owned(), value.to_owned());
        }
        Ok(())
    }
}
