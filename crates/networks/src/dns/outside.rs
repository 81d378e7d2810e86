//! Opens ways to the resolvers outside, in the namespace they are to be asked from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;

use cais_sys::netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::forward::Way;
use super::stream::Stream;
use super::upstreams::{Place, Upstream};

/// One way to each resolver, from ports of the kernel's choice. `spaces` are the container's namespace and the host's;
/// the calling thread is in the latter, and comes back there.
///
/// # Errors
/// When the thread cannot come back.
pub fn open(
    upstreams: &[Upstream],
    by_stream: bool,
    (container, host): (BorrowedFd<'_>, BorrowedFd<'_>),
) -> io::Result<Vec<io::Result<Way>>> {
    let from = |place| {
        upstreams
            .iter()
            .map(move |one| (one.place == place).then_some(one))
    };
    let mut ways: Vec<Option<io::Result<Way>>> = upstreams.iter().map(|_| None).collect();
    if from(Place::Container).flatten().next().is_some() && netns::enter(container).is_ok() {
        for (way, upstream) in ways.iter_mut().zip(from(Place::Container)) {
            // No route from there: left to the host.
            *way = upstream
                .and_then(|one| way_to(one.address, by_stream).ok())
                .map(Ok);
        }
        netns::enter(host)?;
    }
    let fill = |(way, upstream): (Option<io::Result<Way>>, &Upstream)| {
        way.unwrap_or_else(|| way_to(upstream.address, by_stream))
    };
    Ok(ways.into_iter().zip(upstreams).map(fill).collect())
}

fn way_to(address: SocketAddr, by_stream: bool) -> io::Result<Way> {
    if by_stream {
        return Ok(Way::Stream(Stream::new(connect(address)?)));
    }
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(Way::Datagram(socket))
}

/// Begins a connection and does not wait for it.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}
