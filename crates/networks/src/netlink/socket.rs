//! A netlink socket: sends a batch in one call and collects the answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{RecvFlags, SendFlags};

use super::message::{Attributes, Message, Messages, messages, u32_at};

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLM_F_CAPPED`: the request is not repeated in the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: the kernel's own words follow.
const EXTENDED: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ATTR_MESSAGE: u16 = 1;
/// Requests longer than this need a larger send buffer than the system's default of 208 KiB.
const LARGE: usize = 64 * 1024;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{}{source}", .message.as_ref().map(|text| format!("{text}: ")).unwrap_or_default())]
pub struct NetlinkError {
    /// Which request of the batch it was.
    pub index: usize,
    /// What the kernel says in words (extended acknowledgement).
    pub message: Option<String>,
    /// The errno.
    #[source]
    pub source: io::Error,
}

impl NetlinkError {
    /// Whether it was this errno.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

impl From<io::Error> for NetlinkError {
    fn from(source: io::Error) -> Self {
        Self {
            index: 0,
            message: None,
            source,
        }
    }
}

impl From<rustix::io::Errno> for NetlinkError {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// A socket that stays in the network namespace it was opened in, whoever uses it. One user at a time.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: AtomicU32,
}

impl Socket {
    /// A `NETLINK_ROUTE` socket in the namespace of the calling thread.
    pub fn route() -> io::Result<Self> {
        Ok(Self::new(cais_sys::netlink::route()?))
    }

    /// A `NETLINK_NETFILTER` socket in the namespace of the calling thread.
    pub fn netfilter() -> io::Result<Self> {
        Ok(Self::new(cais_sys::netlink::netfilter()?))
    }

    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            sequence: AtomicU32::new(1),
        }
    }

    /// The descriptor's number, for messages.
    pub fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Sends all requests in one call and waits until the last is done. Later requests are tried even when an earlier
    /// one failed; the first failure is returned.
    pub fn run(&self, batch: &mut Messages) -> Result<(), NetlinkError> {
        let last = batch.len().saturating_sub(1);
        self.run_acknowledged(batch, last)
    }

    /// Like [`Socket::run`] where the request that answers is not the last one.
    pub fn run_acknowledged(&self, batch: &mut Messages, last: usize) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.send(batch, last)?;
        let mut failure: Option<NetlinkError> = None;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let (_, received) = rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC)?;
            for message in messages(&buffer[..received.min(buffer.len())]) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != ERROR || index >= batch.len() {
                    continue;
                }
                let failed = acknowledgement(&message, index);
                let finished =
                    index == last || (index == 0 && failed.is_some() && last != batch.len() - 1);
                if let Some(failed) = failed {
                    failure.get_or_insert(failed);
                }
                if finished {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends one request and hands every object of the answer to `each`.
    pub fn dump(
        &self,
        batch: &mut Messages,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        let first = self.send(batch, usize::MAX)?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (_, received) = rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC)?;
            for message in messages(&buffer[..received.min(buffer.len())]) {
                if message.sequence != first {
                    continue;
                }
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => return acknowledgement(&message, 0).map_or(Ok(()), Err),
                    _ => each(&message),
                }
            }
        }
    }

    /// Sends one request that answers with one object.
    pub fn get<T>(
        &self,
        batch: &mut Messages,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let mut found = None;
        let last = batch.len().saturating_sub(1);
        let first = self.send(batch, last)?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (_, received) = rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC)?;
            for message in messages(&buffer[..received.min(buffer.len())]) {
                if message.sequence != first {
                    continue;
                }
                if message.kind == ERROR {
                    return acknowledgement(&message, 0).map_or(Ok(found), Err);
                }
                found = read(&message);
            }
        }
    }

    fn send(&self, batch: &mut Messages, acknowledged: usize) -> Result<u32, NetlinkError> {
        let count = batch.len() as u32;
        let first = self.sequence.fetch_add(count, Ordering::Relaxed);
        let bytes = batch.finish(first, acknowledged);
        if bytes.len() > LARGE {
            let room = i32::try_from(bytes.len() + LARGE).unwrap_or(i32::MAX);
            cais_sys::netlink::set_send_buffer(self.fd.as_fd(), room)?;
        }
        rustix::net::send(&self.fd, bytes, SendFlags::empty())?;
        Ok(first)
    }
}

/// The failure that an `NLMSG_ERROR` message tells, if it tells one.
fn acknowledgement(message: &Message<'_>, index: usize) -> Option<NetlinkError> {
    let errno = u32_at(message.body, 0)?.cast_signed();
    if errno == 0 {
        return None;
    }
    let mut text = None;
    if message.flags & EXTENDED != 0 {
        let request = if message.flags & CAPPED != 0 {
            16
        } else {
            u32_at(message.body, 4)? as usize
        };
        text = Attributes::new(message.body, 4 + request)
            .text(ATTR_MESSAGE)
            .map(str::to_owned);
    }
    Some(NetlinkError {
        index,
        message: text,
        source: io::Error::from_raw_os_error(-errno),
    })
}
