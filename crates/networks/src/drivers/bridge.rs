//! Driver `bridge`: a Linux bridge per network, whose ports are the near ends of veth pairs.

use ipnet::IpNet;

use super::{Leads, NetworkDriver, Options, Place, Surroundings};
use crate::bridge::{self, Bridge};
use crate::config::Config;
use crate::error::NetworkError;
use crate::netlink::Socket;
use crate::netlink::link::find;
use crate::store::{BridgeRecord, EndpointRecord, GatewayMode, NetworkRecord};
use crate::wire::Attachment;

/// The kernel's longest interface name.
const NAME_LENGTH: usize = 15;

/// The packet size of networks that say nothing.
const ETHERNET: u32 = 1500;

/// See the module.
pub struct BridgeDriver;

impl BridgeDriver {
    fn name(record: &NetworkRecord, options: Options<'_>) -> Result<String, NetworkError> {
        let Some(name) = options.text("com.docker.network.bridge.name") else {
            return Ok(format!("br-{}", record.id.short()));
        };
        if name.len() > NAME_LENGTH || name.contains(['/', ' ']) || matches!(name, "." | "..") {
            let text = format!("invalid interface name: {name}");
            return Err(NetworkError::Invalid(text));
        }
        Ok(name.to_owned())
    }

    /// The host's addresses on the bridge.
    fn addresses<'a>(
        record: &'a NetworkRecord,
        bridge: &'a BridgeRecord,
    ) -> impl Iterator<Item = IpNet> + 'a {
        record.pools.iter().filter_map(|pool| {
            let ipv6 = matches!(pool.subnet, IpNet::V6(_));
            let mode = if ipv6 {
                bridge.gateway_mode_ipv6
            } else {
                bridge.gateway_mode_ipv4
            };
            if mode == GatewayMode::Isolated || (bridge.inhibit_ipv4 && !ipv6) {
                return None;
            }
            IpNet::new(pool.gateway?, pool.subnet.prefix_len()).ok()
        })
    }
}

impl NetworkDriver for BridgeDriver {
    fn subnets(&self) -> usize {
        1
    }

    fn plan(
        &self,
        record: &mut NetworkRecord,
        around: &Surroundings<'_>,
    ) -> Result<(), NetworkError> {
        let options = Options(&record.options);
        let name = Self::name(record, options)?;
        let bridges = around.others.iter();
        let mut bridges = bridges.filter_map(|other| Some((other, other.bridge.as_ref()?)));
        if let Some((other, _)) = bridges.find(|(_, bridge)| bridge.name == name) {
            let text = format!(
                "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                record.id, other.id
            );
            return Err(NetworkError::Forbidden(text));
        }
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let found = find(&socket, &name).map_err(NetworkError::during("bridge"))?;
        if found.as_ref().is_some_and(|link| link.kind != "bridge") {
            let text = format!("existing interface {name} is not a bridge");
            return Err(NetworkError::Invalid(text));
        }
        let interfaces = options.text("com.docker.network.bridge.trusted_host_interfaces");
        let interfaces = interfaces.unwrap_or_default().split(':');
        record.bridge = Some(BridgeRecord {
            name,
            made: found.is_none(),
            icc: options.flag("com.docker.network.bridge.enable_icc", true)?,
            masquerade: options.flag("com.docker.network.bridge.enable_ip_masquerade", true)?,
            host_ipv4: options.address("com.docker.network.host_ipv4")?,
            host_ipv6: options.address("com.docker.network.host_ipv6")?,
            gateway_mode_ipv4: options.gateway_mode(false, record.internal)?,
            gateway_mode_ipv6: options.gateway_mode(true, record.internal)?,
            host_binding: options.address("com.docker.network.bridge.host_binding_ipv4")?,
            trusted_interfaces: interfaces
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            inhibit_ipv4: options.flag("com.docker.network.bridge.inhibit_ipv4", false)?,
            next_hop: None,
            next_hop_v6: None,
        });
        record.mtu = options.mtu(ETHERNET)?;
        Ok(())
    }

    fn raise(&self, record: &NetworkRecord, config: &Config) -> Result<u32, NetworkError> {
        let Some(bridge) = &record.bridge else {
            return Err(NetworkError::NotFound(record.name.clone()));
        };
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let wanted = Bridge {
            name: bridge.name.clone(),
            addresses: Self::addresses(record, bridge).collect(),
            mtu: record.mtu,
            ipv4: record.ipv4,
            ipv6: record.ipv6,
            route_localnet: config.firewall && !record.internal,
            made: bridge.made,
        };
        bridge::ensure(&socket, &wanted)
    }

    fn lower(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        let Some(bridge) = record.bridge.as_ref().filter(|bridge| bridge.made) else {
            return Ok(());
        };
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        bridge::remove(&socket, &bridge.name)
    }

    fn attachment(&self, place: &Place<'_>, endpoint: &EndpointRecord) -> Attachment {
        let icc = place
            .network
            .bridge
            .as_ref()
            .is_none_or(|bridge| bridge.icc);
        Attachment::Veth {
            name: endpoint.veth.clone(),
            bridge: place.interface,
            mode: bridge::port_mode(icc, place.publishes),
        }
    }

    fn leads_out(&self, network: &NetworkRecord) -> Leads {
        if network.internal {
            Leads::Nowhere
        } else {
            Leads::ThroughGateway
        }
    }
}
