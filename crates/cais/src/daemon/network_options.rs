//! The flags of the daemon about names and published ports.

use std::net::IpAddr;

use clap::Args;

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
}

impl NameOptions {
    /// Puts the flags into the configuration of the network store.
    pub fn apply(&self, config: &mut cais_networks::Config) {
        config.dns = self.dns.iter().map(ToString::to_string).collect();
        config.dns_search.clone_from(&self.dns_search);
        config.dns_options.clone_from(&self.dns_options);
        config.host_gateway = self.host_gateway_ip;
    }
}
