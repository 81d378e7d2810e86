//! Follows br_netfilter, which somebody may load or switch while we run: ports of bridges and rules depend on it.

use crate::bridge;
use crate::error::NetworkError;
use crate::netlink::link::PortMode;
use crate::netlink::{Messages, Socket, link};

use super::{State, Store};

/// Whether bridged frames pass the IP hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bridged {
    four: bool,
    pub six: bool,
}

impl Bridged {
    /// What the kernel does now.
    pub(super) fn now() -> Self {
        Self {
            four: bridge::filters(false),
            six: bridge::filters(true),
        }
    }
}

impl State {
    /// The bridge ports of containers whose mode depends on it.
    fn port_modes(&self) -> Vec<(String, PortMode)> {
        let mut modes = Vec::new();
        for held in self.sandboxes.values() {
            let publishes = !held.record.ports.is_empty();
            for endpoint in &held.record.endpoints {
                let network = self.networks.get(&endpoint.network);
                let bridge = network.and_then(|network| network.record.bridge.as_ref());
                if let Some(bridge) = bridge.filter(|bridge| publishes || !bridge.icc) {
                    let mode = bridge::port_mode(bridge.icc, publishes);
                    modes.push((endpoint.veth.clone(), mode));
                }
            }
        }
        modes
    }

    /// Brings the ports of running containers in line.
    pub(super) fn set_port_modes(&self) -> Result<(), NetworkError> {
        let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        for (name, mode) in self.port_modes() {
            let mut batch = Messages::new();
            link::set_port_mode(&mut batch, &name, mode);
            match socket.run(&mut batch) {
                // Its container is ending.
                Err(error) if error.is(rustix::io::Errno::NODEV) => {}
                other => other.map_err(NetworkError::during("bridge port"))?,
            }
        }
        Ok(())
    }
}

impl Store {
    /// Brings ports and rules in line when br_netfilter is not as it was; called when a container's networks change.
    pub(super) fn follow_bridge_filter(&self, state: &mut State) -> Result<(), NetworkError> {
        let now = Bridged::now();
        if now == state.bridged {
            return Ok(());
        }
        tracing::info!(
            ipv4 = now.four,
            ipv6 = now.six,
            "bridged frames pass the firewall"
        );
        state.bridged = now;
        state.set_port_modes()?;
        self.replace_rules(state)
    }
}
