//! Makes network namespaces and puts interfaces into them, with few netlink calls.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use ipnet::IpNet;

use crate::error::NetworkError;
use crate::netlink::link::{self, Mac, PortMode, Veth};
use crate::netlink::{Messages, Socket, route};
use crate::sysctl;

/// Interface number of `lo` in every namespace.
const LOOPBACK: u32 = 1;

/// An interface that a sandbox gets.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Name of the end on the host.
    pub veth: String,
    /// Name inside: `eth0`, ...
    pub name: String,
    /// Ethernet address inside.
    pub mac: Mac,
    /// Address with its subnet.
    pub address: IpNet,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Interface number of the bridge.
    pub bridge: u32,
    /// How the bridge treats it.
    pub mode: PortMode,
}

/// A sandbox to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of their names.
    pub interfaces: Vec<Interface>,
    /// Next hop of the default route.
    pub gateway: Option<IpAddr>,
    /// Settings below `net.`, by their name with dots.
    pub sysctls: Vec<(String, String)>,
    /// The first interface number that a new namespace has free, see [`first_free_index`].
    pub first_index: u32,
}

/// Makes the sandbox on a thread of its own, because a namespace is made by moving into it. The namespace lives as long
/// as the descriptor; its interfaces go with it.
pub fn build(plan: Plan) -> thread::JoinHandle<Result<OwnedFd, NetworkError>> {
    thread::spawn(move || {
        let host = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let (netns, inside) = namespace().map_err(NetworkError::during("network namespace"))?;
        if plan
            .interfaces
            .iter()
            .any(|one| matches!(one.address, IpNet::V4(_)))
        {
            sysctl::set_if_there("ipv6/conf/default/disable_ipv6", "1")
                .map_err(NetworkError::during("disable_ipv6"))?;
        }
        connect(&host, &netns, &plan).map_err(NetworkError::during("veth pair"))?;
        configure(&inside, &plan).map_err(NetworkError::during("container interface"))?;
        settle(&host, &plan).map_err(NetworkError::during("bridge port"))?;
        for (name, value) in &plan.sysctls {
            let path = name.strip_prefix("net.").unwrap_or(name).replace('.', "/");
            sysctl::set(&path, value).map_err(|error| {
                let reason = cais_types::error::plain(&error);
                NetworkError::Invalid(format!("open /proc/sys/net/{path}: {reason}"))
            })?;
        }
        Ok(netns)
    })
}

fn namespace() -> io::Result<(OwnedFd, Socket)> {
    cais_sys::netns::unshare()?;
    Ok((cais_sys::netns::current()?, Socket::route()?))
}

/// The pairs, made from the host's side.
fn connect(
    host: &Socket,
    netns: &OwnedFd,
    plan: &Plan,
) -> Result<(), crate::netlink::NetlinkError> {
    let mut batch = Messages::new();
    for (index, interface) in (plan.first_index..).zip(&plan.interfaces) {
        link::add_veth(
            &mut batch,
            &Veth {
                name: &interface.veth,
                peer: &interface.name,
                peer_index: index,
                netns: netns.as_fd(),
                mac: interface.mac,
                mtu: interface.mtu,
                bridge: interface.bridge,
            },
        );
        link::port_up(&mut batch, &interface.veth, interface.mode);
    }
    host.run(&mut batch)
}

/// `lo`, interfaces, addresses and the default route, from inside.
fn configure(inside: &Socket, plan: &Plan) -> Result<(), crate::netlink::NetlinkError> {
    let mut batch = Messages::new();
    link::up(&mut batch, LOOPBACK);
    for (index, interface) in (plan.first_index..).zip(&plan.interfaces) {
        route::add_address(&mut batch, index, interface.address);
        link::up(&mut batch, index);
    }
    if let Some(gateway) = plan.gateway {
        route::add_default_route(&mut batch, gateway);
    }
    inside.run(&mut batch)
}

/// Has the kernel notice that the pairs have a carrier: the port begins to forward, and with its first port the bridge
/// begins to send. Else the container's first packet could be lost, and a connection would wait a second for its next try.
fn settle(host: &Socket, plan: &Plan) -> Result<(), crate::netlink::NetlinkError> {
    for interface in &plan.interfaces {
        link::find(host, &interface.veth)?;
        link::find_index(host, interface.bridge)?;
    }
    Ok(())
}

/// The first interface number that new namespaces have free: 2, or more where the kernel gives each its own tunnel
/// devices (`net.core.fb_tunnels_only_for_init_net`).
pub fn first_free_index() -> Result<u32, NetworkError> {
    let probe = thread::spawn(|| {
        let (_netns, inside) = namespace().map_err(NetworkError::during("network namespace"))?;
        let links = link::list(&inside).map_err(NetworkError::during("interface list"))?;
        Ok(links
            .iter()
            .map(|link| link.index)
            .max()
            .unwrap_or(LOOPBACK)
            + 1)
    });
    join(probe)
}

/// The result of a thread; its panic goes on in this one.
pub fn join<T>(handle: thread::JoinHandle<T>) -> T {
    match handle.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
