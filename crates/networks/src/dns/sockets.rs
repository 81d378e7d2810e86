//! The resolver's sockets inside a container's network namespace, and the rules that lead port 53 to them.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cais_sys::netns;

use crate::error::NetworkError;
use crate::netlink::Socket;
use crate::nft::{
    self, Chain, Family, Field, Hook, HookKind, HookPoint, RuleSet, Side, Statement, rule,
};
use crate::ports::Protocol;

/// Where containers find their resolver.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The table inside the container.
const TABLE: &str = "cais-dns";
/// The port of resolvers.
const DOMAIN: u16 = 53;

/// Open sockets on ports of their own: 53 stays free for the container.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// Their namespace, from where resolvers outside are asked.
    pub(super) netns: OwnedFd,
}

impl Sockets {
    /// The ports of the datagram socket and of the listener.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn ports(&self) -> std::io::Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

/// Opens the sockets in the namespace of the calling thread, whose `lo` is up. `fresh` when the namespace was just made, so
/// that there are no rules of an earlier daemon in it.
///
/// # Errors
/// Those of the sockets. A kernel without nf_tables gets the sockets on port 53 itself.
pub fn open_here(fresh: bool) -> Result<Sockets, NetworkError> {
    let failed = NetworkError::during::<std::io::Error>;
    let task = "resolver socket";
    let netns = netns::current().map_err(failed(task))?;
    let mut udp = UdpSocket::bind((ADDRESS, 0)).map_err(failed(task))?;
    let mut tcp = TcpListener::bind((ADDRESS, 0)).map_err(failed(task))?;
    let (udp_port, tcp_port) = (port(udp.local_addr())?, port(tcp.local_addr())?);
    let rules = rule_set(udp_port, tcp_port);
    if let Err(error) = lead(&rules, fresh) {
        tracing::warn!(%error, "no rules in the container's namespace: its resolver takes port 53");
        udp = UdpSocket::bind((ADDRESS, DOMAIN)).map_err(failed(task))?;
        tcp = TcpListener::bind((ADDRESS, DOMAIN)).map_err(failed(task))?;
    }
    udp.set_nonblocking(true).map_err(failed(task))?;
    tcp.set_nonblocking(true).map_err(failed(task))?;
    Ok(Sockets { udp, tcp, netns })
}

fn port(address: std::io::Result<std::net::SocketAddr>) -> Result<u16, NetworkError> {
    let address = address.map_err(NetworkError::during("resolver socket"))?;
    Ok(address.port())
}

/// Opens the sockets in a namespace that is in use already.
///
/// # Errors
/// As [`open_here`].
pub fn open_in(netns: BorrowedFd<'_>) -> Result<Sockets, NetworkError> {
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            netns::enter(netns.as_fd()).map_err(NetworkError::during("network namespace"))?;
            open_here(false)
        });
        match opening.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn lead(rules: &RuleSet, fresh: bool) -> Result<(), NetworkError> {
    let task = "resolver rules";
    let socket = Socket::netfilter().map_err(NetworkError::during(task))?;
    if fresh {
        nft::create(&socket, rules).map_err(NetworkError::during(task))
    } else {
        nft::replace(&socket, std::slice::from_ref(rules)).map_err(NetworkError::during(task))
    }
}

/// Ports are rewritten without connection tracking, which would cost every packet of the container. The answer's port is
/// put back before a container that tracks its connections sees it, and the question's behind that point: it sees both
/// on port 53.
pub fn rule_set(udp: u16, tcp: u16) -> RuleSet {
    let both = [(Protocol::Udp, udp), (Protocol::Tcp, tcp)];
    let port = |(protocol, _): (Protocol, u16), side, port| Statement::Port {
        protocol: protocol.number(),
        side,
        port,
    };
    let rewrite = |(protocol, _): (Protocol, u16), side, port| Statement::SetPort {
        protocol: protocol.number(),
        side,
        port,
    };
    let at = |field| Statement::Is {
        field,
        not: false,
        value: nft::Atom::Address(ADDRESS.into()),
    };
    let question = |one: (Protocol, u16)| {
        rule([
            at(Field::Destination),
            port(one, Side::Destination, DOMAIN),
            rewrite(one, Side::Destination, one.1),
        ])
    };
    let answer = |one: (Protocol, u16)| {
        rule([
            at(Field::Source),
            port(one, Side::Source, one.1),
            rewrite(one, Side::Source, DOMAIN),
        ])
    };
    let chain = |name: &str, priority, rules| Chain {
        name: name.to_owned(),
        hook: Some(Hook {
            kind: HookKind::Filter,
            point: HookPoint::Output,
            priority,
        }),
        rules,
    };
    RuleSet {
        family: Family::Ip,
        table: TABLE.to_owned(),
        sets: Vec::new(),
        chains: vec![
            chain("answers", -300, both.map(answer).into()),
            chain("questions", 200, both.map(question).into()),
        ],
    }
}
