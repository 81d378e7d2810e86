//! What the resolver is told of sandboxes, and what their `/etc/resolv.conf` says.

use cais_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::dns::{self, Member, Settings};
use crate::error::NetworkError;
use crate::files::{Asked, ResolvConf};

use super::live::Live;
use super::records::{EndpointRecord, SandboxRecord};
use super::{State, Store};

/// Names that every container may ask for and that lead to the host.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// How a container wants names to be resolved (`--dns`, `--dns-search`, `--dns-option`); empty for the daemon's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsWish {
    /// Addresses of resolvers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options as in resolv.conf(5).
    pub options: Vec<String>,
}

/// Whether a network's members find each other by name.
fn answers(state: &State, endpoint: &EndpointRecord) -> bool {
    let network = state.networks.get(&endpoint.network);
    network.is_some_and(|network| network.record.is_user_defined())
}

impl State {
    /// Whether a sandbox has a resolver of its own.
    pub(super) fn has_resolver(&self, record: &SandboxRecord) -> bool {
        record.endpoints.iter().any(|one| answers(self, one))
    }
}

impl Store {
    /// Tells the resolver where a container is now; before that it is nowhere.
    pub(super) fn introduce(&self, state: &State, container: &ContainerId, record: &SandboxRecord) {
        let endpoints: Vec<&EndpointRecord> = record
            .endpoints
            .iter()
            .filter(|one| answers(state, one))
            .collect();
        let links = endpoints.iter().flat_map(|one| &one.links);
        let links = links.map(|link| (link.alias.clone(), link.target.clone()));
        let links = links.collect();
        self.dns.change(|directory| {
            directory.forget(container);
            for endpoint in endpoints {
                let member = Member {
                    container: *container,
                    names: endpoint.dns_names.clone(),
                    addresses: endpoint.addresses().collect(),
                };
                directory.join(endpoint.network, &endpoint.network_name, &member);
            }
            directory.link(*container, &links);
        });
    }

    /// How the resolver handles a container's questions.
    pub(super) fn dns_settings(&self, state: &State, record: &SandboxRecord) -> Settings {
        let or = |asked: &[String], default: &[String]| {
            let list = if asked.is_empty() { default } else { asked };
            list.to_vec()
        };
        let options = or(&record.dns.options, &self.config.dns_options);
        let dots = options.iter().find_map(|word| word.strip_prefix("ndots:"));
        let leads_out = |endpoint: &EndpointRecord| {
            let network = state.networks.get(&endpoint.network);
            network.is_some_and(|network| !network.record.internal)
        };
        Settings {
            servers: dns::given(&or(&record.dns.servers, &self.config.dns)),
            forwards: record.endpoints.iter().any(leads_out),
            keeps_single_labels: dots.is_some_and(|number| number != "0"),
        }
    }

    /// Follows a change of the networks of a running container, which may have been without a resolver before.
    pub(super) fn follow_names(
        &self,
        live: &Live<'_>,
        (before, after): (&SandboxRecord, &SandboxRecord),
    ) -> Result<(), NetworkError> {
        let (had, has, settings) = {
            let state = self.lock();
            self.introduce(&state, live.container, after);
            let settings = self.dns_settings(&state, after);
            (
                state.has_resolver(before),
                state.has_resolver(after),
                settings,
            )
        };
        match (had, has) {
            (true, true) => self.dns.set(*live.container, settings),
            (false, true) => {
                let sockets = dns::open_in(live.netns)?;
                self.dns.serve(*live.container, sockets, settings);
            }
            (true, false) => self.dns.stop(*live.container),
            (false, false) => {}
        }
        Ok(())
    }

    /// Answers a container again that outlived a daemon.
    pub fn adopt(&self, live: &Live<'_>) -> Result<(), NetworkError> {
        let settings = {
            let state = self.lock();
            let Some(held) = state.sandboxes.get(live.container) else {
                return Ok(());
            };
            let wanted = state.has_resolver(&held.record);
            wanted.then(|| self.dns_settings(&state, &held.record))
        };
        if let Some(settings) = settings {
            let sockets = dns::open_in(live.netns)?;
            self.dns.serve(*live.container, sockets, settings);
        }
        Ok(())
    }

    /// Makes the host's names lead to the addresses that containers reach it by.
    pub(super) fn name_host(&self) {
        let addresses: Vec<_> = match self.config.host_gateway {
            Some(address) => vec![address],
            None => {
                let state = self.lock();
                let bridge = state.find("bridge").ok();
                let pools = bridge.iter().flat_map(|bridge| &bridge.record.pools);
                pools.filter_map(|pool| pool.gateway).collect()
            }
        };
        self.dns
            .change(|directory| directory.set_host(&HOST_NAMES, &addresses));
    }

    /// The text of `/etc/resolv.conf` for a container on these networks.
    pub fn resolv_conf(&self, networks: &[String], dns: &DnsWish) -> Result<String, NetworkError> {
        let state = self.lock();
        let mut resolver = false;
        let mut ipv6 = false;
        for network in networks {
            let record = &state.find(network)?.record;
            resolver |= record.is_user_defined();
            ipv6 |= record.ipv6;
        }
        drop(state);
        let config = &self.config;
        let asked = Asked {
            servers: [&dns.servers, &config.dns],
            search: [&dns.search, &config.dns_search],
            options: [&dns.options, &config.dns_options],
        };
        let file = ResolvConf::read(&config.resolv_conf, &asked);
        let host = networks.iter().any(|network| network == "host");
        Ok(match (resolver, host) {
            (true, _) => file.with_resolver(dns::ADDRESS.into()),
            (false, true) => file.of_host(),
            (false, false) => file.without_resolver(ipv6),
        })
    }
}
