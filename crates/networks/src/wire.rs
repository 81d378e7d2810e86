//! Makes network namespaces and puts interfaces into them, or into those of running containers, with few netlink calls.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use ipnet::IpNet;

use crate::dns::{self, Sockets};
use crate::error::NetworkError;
use crate::netlink::child::{self, Child, ChildKind};
use crate::netlink::link::{self, Mac, PortMode, Veth};
use crate::netlink::route::{self, DefaultRoute};
use crate::netlink::{Messages, NetlinkError, Socket};
use crate::sysctl;

/// Interface number of `lo` in every namespace.
const LOOPBACK: u32 = 1;

/// What an interface hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The far end of a pair whose near end is a port of a bridge.
    Veth {
        /// Name of the near end.
        name: String,
        /// Interface number of the bridge.
        bridge: u32,
        /// How the bridge treats it.
        mode: PortMode,
    },
    /// A child of an interface of the host.
    Child {
        /// Interface number of the parent.
        parent: u32,
        /// What it is.
        kind: ChildKind,
        /// What it is called until it is in its namespace: a name that nobody has on the host.
        passing: String,
    },
}

/// An interface that a sandbox gets.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Name inside: `eth0`, ...
    pub name: String,
    /// Ethernet address inside.
    pub mac: Mac,
    /// Addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Largest packet in bytes; 0 for the parent's.
    pub mtu: u32,
    /// Where it comes from.
    pub attachment: Attachment,
    /// Settings below `/proc/sys/net/` that are made once it is there.
    pub sysctls: Vec<(String, String)>,
}

impl Interface {
    fn has_ipv6(&self) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|one| matches!(one, IpNet::V6(_)))
    }
}

/// A way to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Name of the interface.
    pub interface: String,
    /// Next hop, if the world is not on the link.
    pub gateway: Option<IpAddr>,
}

/// The default routes of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Of IPv4.
    pub four: Option<Way>,
    /// Of IPv6.
    pub six: Option<Way>,
}

impl Defaults {
    fn families(&self) -> [(bool, Option<&Way>); 2] {
        [(false, self.four.as_ref()), (true, self.six.as_ref())]
    }
}

/// A sandbox to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of their names.
    pub interfaces: Vec<Interface>,
    /// The default routes.
    pub defaults: Defaults,
    /// Settings below `net.`, by their name with dots.
    pub sysctls: Vec<(String, String)>,
    /// The first interface number that a new namespace has free, see [`first_free_index`].
    pub first_index: u32,
    /// Whether it has a resolver.
    pub resolver: bool,
}

/// A sandbox that was made.
#[derive(Debug)]
pub struct Built {
    /// The namespace.
    pub netns: OwnedFd,
    /// The sockets of its resolver.
    pub resolver: Option<Sockets>,
    /// A sysfs of it, see [`crate::Sandbox::sysfs`].
    pub sysfs: Option<OwnedFd>,
}

/// Makes the sandbox on a thread of its own, because a namespace is made by moving into it; `made` gets it before there is
/// anything in it. The namespace lives as long as a descriptor; its interfaces go with it.
pub fn build(
    plan: Plan,
    made: impl FnOnce(OwnedFd) + Send + 'static,
) -> thread::JoinHandle<Result<Built, NetworkError>> {
    thread::spawn(move || {
        let host = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        let space = namespace().and_then(|space| Ok((space.0.try_clone()?, space)));
        let (copy, (netns, inside)) = space.map_err(NetworkError::during("network namespace"))?;
        made(copy);
        let sysfs = cais_sys::mount::new("sysfs", Some("sysfs"), &[], 0).ok();
        if !plan.interfaces.is_empty() {
            // CVE-2024-32473: interfaces have IPv6 only where their network has it.
            sysctl::set_if_there("ipv6/conf/default/disable_ipv6", "1")
                .map_err(NetworkError::during("disable_ipv6"))?;
        }
        let mut numbered: Vec<(u32, &Interface)> =
            (plan.first_index..).zip(&plan.interfaces).collect();
        let mut batch = Messages::new();
        for (index, interface) in &numbered {
            attach(&mut batch, interface, *index, netns.as_fd());
        }
        host.run(&mut batch)
            .map_err(NetworkError::during("container interface"))?;
        for (index, interface) in &mut numbered {
            *index = arrive(&inside, interface)?.unwrap_or(*index);
        }
        let mut batch = Messages::new();
        link::up(&mut batch, LOOPBACK);
        for (index, interface) in &numbered {
            configure(&mut batch, interface, *index)?;
        }
        for (ipv6, way) in plan.defaults.families() {
            let Some(way) = way else { continue };
            let found = numbered.iter().find(|(_, one)| one.name == way.interface);
            if let Some((index, _)) = found {
                route::set_default_route(&mut batch, &default_route(ipv6, way, *index));
            }
        }
        inside
            .run(&mut batch)
            .map_err(NetworkError::during("container interface"))?;
        for (_, interface) in &numbered {
            settle(&host, interface).map_err(NetworkError::during("bridge port"))?;
            set_all(&interface.sysctls)?;
        }
        let slashed = |name: &str| name.strip_prefix("net.").unwrap_or(name).replace('.', "/");
        let sysctls = plan.sysctls.iter();
        let sysctls: Vec<_> = sysctls
            .map(|(name, value)| (slashed(name), value.clone()))
            .collect();
        set_all(&sysctls)?;
        let resolver = plan.resolver.then(|| dns::open_here(true)).transpose()?;
        Ok(Built {
            netns,
            resolver,
            sysfs,
        })
    })
}

/// Puts one more interface into a live namespace and changes its default routes: all of it or nothing.
pub fn plug(
    netns: BorrowedFd<'_>,
    interface: &Interface,
    (before, after): (&Defaults, &Defaults),
) -> Result<(), NetworkError> {
    in_namespace(netns, |host, inside| {
        let mut batch = Messages::new();
        attach(&mut batch, interface, 0, netns);
        host.run(&mut batch)
            .map_err(NetworkError::during("container interface"))?;
        let done = set_up(inside, interface, (before, after)).and_then(|()| {
            settle(host, interface).map_err(NetworkError::during("bridge port"))?;
            set_all(&interface.sysctls)
        });
        if done.is_err() {
            let passing = match &interface.attachment {
                Attachment::Veth { .. } => None,
                Attachment::Child { passing, .. } => Some(passing),
            };
            for name in passing.into_iter().chain([&interface.name]) {
                let mut batch = Messages::new();
                link::delete(&mut batch, name);
                match inside.run(&mut batch) {
                    Err(error) if !error.is(rustix::io::Errno::NODEV) => {
                        tracing::warn!(%error, "an interface stays in a container");
                    }
                    _ => {}
                }
            }
            let _ = change_defaults(inside, (after, before));
        }
        done
    })
}

fn set_up(
    inside: &Socket,
    interface: &Interface,
    defaults: (&Defaults, &Defaults),
) -> Result<(), NetworkError> {
    let task = "container interface";
    arrive(inside, interface)?;
    let found = link::find(inside, &interface.name).map_err(NetworkError::during(task))?;
    let found = found.ok_or_else(|| NetworkError::NotFound(interface.name.clone()))?;
    let mut batch = Messages::new();
    configure(&mut batch, interface, found.index)?;
    inside.run(&mut batch).map_err(NetworkError::during(task))?;
    change_defaults(inside, defaults)
}

/// Takes an interface out of a live namespace and changes its default routes. An interface that is gone is no error.
pub fn unplug(
    netns: BorrowedFd<'_>,
    interface: &str,
    defaults: (&Defaults, &Defaults),
) -> Result<(), NetworkError> {
    in_namespace(netns, |_, inside| {
        let mut batch = Messages::new();
        link::delete(&mut batch, interface);
        match inside.run(&mut batch) {
            Err(error) if error.is(rustix::io::Errno::NODEV) => {}
            other => other.map_err(NetworkError::during("container interface"))?,
        }
        change_defaults(inside, defaults)
    })
}

/// The names of the interfaces of a live namespace.
pub fn interfaces(netns: BorrowedFd<'_>) -> Result<Vec<String>, NetworkError> {
    in_namespace(netns, |_, inside| {
        let links = link::list(inside).map_err(NetworkError::during("interface list"))?;
        Ok(links.into_iter().map(|one| one.name).collect())
    })
}

/// Runs on a thread in a live namespace, with a socket of the host's and one of the namespace's.
fn in_namespace<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce(&Socket, &Socket) -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    let run = move || {
        let host = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        cais_sys::netns::enter(netns).map_err(NetworkError::during("network namespace"))?;
        let inside = Socket::route().map_err(NetworkError::during("netlink socket"))?;
        work(&host, &inside)
    };
    thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn namespace() -> io::Result<(OwnedFd, Socket)> {
    cais_sys::netns::unshare()?;
    Ok((cais_sys::netns::current()?, Socket::route()?))
}

/// Gives an interface its name that came under another one, and answers its number.
fn arrive(inside: &Socket, interface: &Interface) -> Result<Option<u32>, NetworkError> {
    let task = "container interface";
    let Attachment::Child { passing, .. } = &interface.attachment else {
        return Ok(None);
    };
    let found = link::find(inside, passing).map_err(NetworkError::during(task))?;
    let found = found.ok_or_else(|| NetworkError::NotFound(passing.clone()))?;
    let mut batch = Messages::new();
    link::rename(&mut batch, found.index, &interface.name);
    inside.run(&mut batch).map_err(NetworkError::during(task))?;
    Ok(Some(found.index))
}

/// Makes the interface, from the host's side.
fn attach(batch: &mut Messages, interface: &Interface, index: u32, netns: BorrowedFd<'_>) {
    match &interface.attachment {
        Attachment::Veth { name, bridge, mode } => {
            link::add_veth(
                batch,
                &Veth {
                    name,
                    peer: &interface.name,
                    peer_index: index,
                    netns,
                    mac: interface.mac,
                    mtu: interface.mtu,
                    bridge: *bridge,
                },
            );
            link::port_up(batch, name, *mode);
        }
        Attachment::Child {
            parent,
            kind,
            passing,
        } => child::add_child(
            batch,
            &Child {
                parent: *parent,
                name: passing,
                netns,
                mac: interface.mac,
                mtu: interface.mtu,
                kind: *kind,
            },
        ),
    }
}

/// Addresses, and up; the calling thread is in the namespace.
fn configure(batch: &mut Messages, interface: &Interface, index: u32) -> Result<(), NetworkError> {
    let setting = |name: &str| format!("ipv6/conf/{}/{name}", interface.name);
    let set = |name: &str, value: &str| {
        sysctl::set_if_there(&setting(name), value).map_err(NetworkError::during("IPv6 settings"))
    };
    if interface.has_ipv6() {
        set("disable_ipv6", "0")?;
        set("accept_ra", "0")?;
    }
    for address in &interface.addresses {
        route::add_address(batch, index, *address);
    }
    link::up(batch, index);
    Ok(())
}

fn default_route(ipv6: bool, way: &Way, interface: u32) -> DefaultRoute {
    DefaultRoute {
        ipv6,
        gateway: way.gateway,
        interface,
    }
}

/// Changes the default routes that differ; what the container did to the others stays.
fn change_defaults(
    inside: &Socket,
    (before, after): (&Defaults, &Defaults),
) -> Result<(), NetworkError> {
    let task = "default route";
    for ((ipv6, old), (_, new)) in before.families().into_iter().zip(after.families()) {
        if old == new {
            continue;
        }
        let index = |way: &Way| {
            let found = link::find(inside, &way.interface).map_err(NetworkError::during(task))?;
            Ok::<_, NetworkError>(found.map(|link| link.index))
        };
        let mut batch = Messages::new();
        if let Some(way) = new {
            if let Some(index) = index(way)? {
                route::set_default_route(&mut batch, &default_route(ipv6, way, index));
            }
        } else if let Some(way) = old
            && let Some(index) = index(way)?
        {
            route::delete_default_route(&mut batch, ipv6, index);
        }
        match inside.run(&mut batch) {
            // It went with its interface.
            Err(error) if new.is_none() && error.is(rustix::io::Errno::SRCH) => {}
            other => other.map_err(NetworkError::during(task))?,
        }
    }
    Ok(())
}

/// Has the kernel notice that the pair has a carrier: the port begins to forward, and with its first port the bridge
/// begins to send. Else the container's first packet could be lost, and a connection would wait a second for its next try.
fn settle(host: &Socket, interface: &Interface) -> Result<(), NetlinkError> {
    let Attachment::Veth { name, bridge, .. } = &interface.attachment else {
        return Ok(());
    };
    let port = link::find(host, name)?;
    link::find_index(host, *bridge)?;
    if let Some(port) = port {
        // The host sends nothing by a port. Whatever happens to an interface has the kernel walk over all routes of IPv6, so
        // those of a thousand ports are felt. A host without IPv6 has none.
        let mut batch = Messages::new();
        route::delete_multicast_route(&mut batch, port.index);
        let _ = host.run(&mut batch);
    }
    Ok(())
}

fn set_all(settings: &[(String, String)]) -> Result<(), NetworkError> {
    for (path, value) in settings {
        sysctl::set(path, value).map_err(|error| {
            let reason = cais_types::error::plain(&error);
            NetworkError::Invalid(format!("open /proc/sys/net/{path}: {reason}"))
        })?;
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
