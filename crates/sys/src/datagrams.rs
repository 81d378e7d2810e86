//! Datagrams of IPv4 in batches: as many as there are with one call (recvmmsg(2), sendmmsg(2)).

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams of one call at most.
pub const MOST: usize = 32;
/// Bytes of a datagram that are kept; what is beyond is cut off.
pub const LONGEST: usize = 4096;

/// Datagrams that came, until the next ones are received.
pub struct Received {
    bytes: Box<[u8]>,
    lengths: [usize; MOST],
    senders: [libc::sockaddr_in; MOST],
    count: usize,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            bytes: vec![0; MOST * LONGEST].into(),
            lengths: [0; MOST],
            // SAFETY: all bytes zero is a valid address.
            senders: unsafe { zeroed() },
            count: 0,
        }
    }
}

impl Received {
    /// Takes what has come to a UDP socket, without waiting; answers how many there are.
    ///
    /// # Errors
    /// WouldBlock: none. Those of datagrams that were sent before.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        let mut pieces: [libc::iovec; MOST] = std::array::from_fn(|number| libc::iovec {
            iov_base: self.bytes[number * LONGEST..].as_mut_ptr().cast(),
            iov_len: LONGEST,
        });
        // SAFETY: all bytes zero is a valid header.
        let mut headers: [libc::mmsghdr; MOST] = unsafe { zeroed() };
        for (number, header) in headers.iter_mut().enumerate() {
            header.msg_hdr = message(&mut self.senders[number], &mut pieces[number]);
        }
        // SAFETY: the headers point to buffers and addresses that live until the call returns, with their sizes.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MOST as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..self.count]) {
            *length = header.msg_len as usize;
        }
        Ok(self.count)
    }

    /// The datagrams with who sent them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddrV4)> {
        (0..self.count).map(|number| {
            let sender = &self.senders[number];
            let address = Ipv4Addr::from(u32::from_be(sender.sin_addr.s_addr));
            let bytes = &self.bytes[number * LONGEST..][..self.lengths[number]];
            (
                bytes,
                SocketAddrV4::new(address, u16::from_be(sender.sin_port)),
            )
        })
    }
}

/// Datagrams to be sent.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`, and who gets it.
    datagrams: Vec<(usize, SocketAddrV4)>,
}

impl Outgoing {
    /// Adds one; there is room for [`MOST`].
    pub fn push(&mut self, bytes: &[u8], to: SocketAddrV4) {
        self.bytes.extend_from_slice(bytes);
        self.datagrams.push((self.bytes.len(), to));
    }

    /// Sends all from a UDP socket, and forgets them. One that cannot be sent is left out, like one that is lost on its way.
    pub fn send(&mut self, socket: BorrowedFd<'_>) {
        if self.datagrams.is_empty() {
            return;
        }
        // SAFETY: all bytes zero is a valid address.
        let mut receivers: [libc::sockaddr_in; MOST] = unsafe { zeroed() };
        // SAFETY: all bytes zero is a valid piece.
        let mut pieces: [libc::iovec; MOST] = unsafe { zeroed() };
        // SAFETY: all bytes zero is a valid header.
        let mut headers: [libc::mmsghdr; MOST] = unsafe { zeroed() };
        let mut start = 0;
        let count = self.datagrams.len().min(MOST);
        for (number, (end, to)) in self.datagrams[..count].iter().enumerate() {
            receivers[number].sin_family = libc::AF_INET as libc::sa_family_t;
            receivers[number].sin_port = to.port().to_be();
            receivers[number].sin_addr.s_addr = u32::from(*to.ip()).to_be();
            pieces[number].iov_base = self.bytes[start..].as_ptr().cast_mut().cast();
            pieces[number].iov_len = end - start;
            headers[number].msg_hdr = message(&mut receivers[number], &mut pieces[number]);
            start = *end;
        }
        let mut sent = 0;
        while sent < count {
            let rest = &mut headers[sent..count];
            // SAFETY: the headers point to addresses and to bytes that live until the call returns and are only read.
            let more = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            sent += usize::try_from(more).unwrap_or(1).max(1);
        }
        self.bytes.clear();
        self.datagrams.clear();
    }
}

fn message(address: &mut libc::sockaddr_in, piece: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all bytes zero is a valid header.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = std::ptr::from_mut(address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn socket() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            panic!("IPv6");
        };
        (socket, address)
    }

    #[test]
    fn datagrams_come_and_go_whole_and_in_order() {
        let (near, at) = socket();
        let (far, from) = socket();
        let mut received = Received::default();
        let error = received.receive(near.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let long = vec![7; LONGEST + 1];
        let texts: [&[u8]; 4] = [b"one", b"", b"three", &long];
        for text in texts {
            far.send_to(text, at).unwrap();
        }
        assert_eq!(received.receive(near.as_fd()).unwrap(), 4);
        let mut outgoing = Outgoing::default();
        for ((bytes, sender), text) in received.iter().zip(texts) {
            assert_eq!((bytes, sender), (&text[..text.len().min(LONGEST)], from));
            outgoing.push(bytes, sender);
        }
        outgoing.send(near.as_fd());
        for text in texts {
            let mut buffer = [0; LONGEST];
            let (length, sender) = far.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], &text[..text.len().min(LONGEST)]);
            assert_eq!(sender, at.into());
        }
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_stop_the_others() {
        let (near, _) = socket();
        let (far, to) = socket();
        let mut outgoing = Outgoing::default();
        outgoing.push(b"first", to);
        // Nobody may send there from a socket without SO_BROADCAST.
        outgoing.push(b"lost", SocketAddrV4::new(Ipv4Addr::BROADCAST, 9));
        outgoing.push(b"last", to);
        outgoing.send(near.as_fd());
        let mut buffer = [0; 16];
        for text in ["first", "last"] {
            let (length, _) = far.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], text.as_bytes());
        }
    }
}
