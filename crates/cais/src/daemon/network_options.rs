//! The flags of the daemon about names and published ports.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

/// How containers resolve names that say nothing of it themselves.
#[derive(Debug, Args)]
pub struct NameOptions {
    /// DNS server to use
    #[arg(long = "dns", value_name = "list")]
    dns: Vec<IpAddr>,
    /// DNS search domains to use
    #[arg(long = "dns-search", value_name = "list")]
    dns_search: Vec<String>,
    /// DNS options to use
    #[arg(long = "dns-opt", value_name = "list")]
    dns_options: Vec<String>,
    /// IP address that the special 'host-gateway' string in --add-host resolves to. Defaults to the IP address of the
    /// default bridge
    #[arg(long, value_name = "ip")]
    host_gateway_ip: Option<IpAddr>,
    /// Whose firewall rules decide who may reach published ports: none ("none", as with Docker) or the host's own input
    /// rules ("host")
    #[arg(long, value_name = "string", default_value = "none")]
    publish_firewall: PublishFirewall,
    /// Default IP when binding container ports
    #[arg(long, value_name = "ip", default_value = "0.0.0.0")]
    ip: IpAddr,
    /// Enable addition of firewall rules; without them no port can be published and nothing is masqueraded
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    iptables: bool,
}

/// The words of `--publish-firewall`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PublishFirewall {
    None,
    Host,
}

impl NameOptions {
    /// Puts the flags into the configuration of the network store.
    pub fn apply(&self, config: &mut cais_networks::Config) {
        config.dns = self.dns.iter().map(ToString::to_string).collect();
        config.dns_search.clone_from(&self.dns_search);
        config.dns_options.clone_from(&self.dns_options);
        config.host_gateway = self.host_gateway_ip;
        config.publish_address = self.ip;
        config.firewall = self.iptables;
        config.publish_firewall = match self.publish_firewall {
            PublishFirewall::None => cais_networks::PublishFirewall::None,
            PublishFirewall::Host => cais_networks::PublishFirewall::Host,
        };
    }
}
