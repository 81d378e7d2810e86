//! What the kernel tells of changes that anybody makes to nf_tables.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::{Attributes, messages};

use super::encode;

/// A socket on which changes are told from its opening on.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Changes {
    /// Of the network namespace of the calling thread.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self(cais_sys::netlink::nf_tables_changes()?))
    }

    /// Reads all that was told, and answers whether a table of this name may have gone: it did, or something was lost.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn removed(&self, table: &str) -> io::Result<bool> {
        let mut removed = false;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let received = match rustix::net::recv(&self.0, &mut *buffer, flags) {
                Ok((_, received)) => received,
                Err(Errno::AGAIN) => return Ok(removed),
                Err(Errno::NOBUFS) => {
                    removed = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let cut = received > buffer.len();
            let mut told = messages(&buffer[..received.min(buffer.len())]);
            removed |= cut
                || told.any(|message| {
                    message.kind == encode::kind(encode::DELTABLE)
                        && Attributes::new(message.body, 4).text(1) == Some(table)
                });
        }
    }
}
