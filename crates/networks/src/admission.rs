//! The pair of interfaces by which packets to published ports come back from the end of the host's input rules (see
//! `firewall`): a translated packet is forwarded and never sees those rules, so it is translated only after it passed them.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::bridge;
use crate::error::NetworkError;
use crate::firewall::Admission;
use crate::netlink::{Messages, Socket, link, route};
use crate::sysctl;

/// The kernel's longest interface name, without what we put behind.
const STEM: usize = 13;

fn names(stem: &str) -> (String, String) {
    let stem: String = stem.chars().take(STEM).collect();
    (format!("{stem}-o"), format!("{stem}-b"))
}

/// Makes the pair, or finds it again.
pub fn ensure(stem: &str) -> Result<Admission, NetworkError> {
    let task = "interfaces for published ports";
    let (out, back) = names(stem);
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let find = || link::find(&socket, &out).map_err(NetworkError::during(task));
    if find()?.is_none() {
        let mut batch = Messages::new();
        link::add_loop(&mut batch, &out, &back, bridge::random_mac()?);
        socket.run(&mut batch).map_err(NetworkError::during(task))?;
    }
    settings(&out, &back).map_err(NetworkError::during(task))?;
    address(&socket, &back)?;
    let mut batch = Messages::new();
    link::up_without_arp(&mut batch, &out);
    link::up_without_arp(&mut batch, &back);
    socket.run(&mut batch).map_err(NetworkError::during(task))?;
    let found = find()?.ok_or_else(|| NetworkError::NotFound(out.clone()))?;
    Ok(Admission {
        out,
        out_index: found.index,
        back,
    })
}

/// The kernel drops what comes in by an interface without any address from sources that are elsewhere, when it looks at
/// sources at all (`rp_filter`).
fn address(socket: &Socket, back: &str) -> Result<(), NetworkError> {
    let task = "interfaces for published ports";
    let found = link::find(socket, back).map_err(NetworkError::during(task))?;
    let found = found.ok_or_else(|| NetworkError::NotFound(back.to_owned()))?;
    let own = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 254, 2), 32);
    let mut batch = Messages::new();
    route::add_address(&mut batch, found.index, own.into());
    match socket.run(&mut batch) {
        Err(error) if error.is(rustix::io::Errno::EXIST) => Ok(()),
        other => other.map_err(NetworkError::during(task)),
    }
}

/// Packets come in from everywhere under the addresses of others, and the kernel says nothing there itself.
fn settings(out: &str, back: &str) -> std::io::Result<()> {
    sysctl::set(&format!("ipv4/conf/{back}/rp_filter"), "2")?;
    for name in [out, back] {
        sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    }
    // IFLA_INET6_ADDR_GEN_MODE none: the other end has the link-local address.
    sysctl::set_if_there(&format!("ipv6/conf/{back}/addr_gen_mode"), "1")
}

/// Removes the pair; a missing one is no error.
pub fn remove(stem: &str) -> Result<(), NetworkError> {
    let (out, _) = names(stem);
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let mut batch = Messages::new();
    link::delete(&mut batch, &out);
    match socket.run(&mut batch) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(()),
        other => other.map_err(NetworkError::during("interfaces for published ports")),
    }
}
