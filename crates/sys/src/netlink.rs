//! Netlink sockets (netlink(7)) with the options that rustix does not know.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};

/// The group that is told of changes of nf_tables: `NFNLGRP_NFTABLES` is number 7.
const NF_TABLES_GROUP: u32 = 1 << 6;

/// Opens a `NETLINK_ROUTE` socket (protocol 0) in the network namespace of the calling thread.
pub fn route() -> io::Result<OwnedFd> {
    socket(None, 0)
}

/// Opens a `NETLINK_NETFILTER` socket in the network namespace of the calling thread.
pub fn netfilter() -> io::Result<OwnedFd> {
    socket(Some(rustix::net::netlink::NETFILTER), 0)
}

/// Opens a socket that hears of every change of nf_tables in the network namespace of the calling thread.
pub fn nf_tables_changes() -> io::Result<OwnedFd> {
    socket(Some(rustix::net::netlink::NETFILTER), NF_TABLES_GROUP)
}

/// A bound socket whose errors carry the kernel's text and not the whole request.
fn socket(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
    set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
    set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
    Ok(fd)
}

/// Makes room for requests of this many bytes beyond the system's limit; needs CAP_NET_ADMIN.
pub fn set_send_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

fn set_option(fd: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let value = &raw const value;
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes at `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
