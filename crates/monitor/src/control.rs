//! Control connections: the engine that launched this monitor, and any engine that finds it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

use super::client::Queue;
use super::protocol::{Envelope, Message};
use super::wire::{self, Decoder};

/// Unsent bytes at which no more requests are read.
const UNSENT_PAUSE: usize = 256 << 10;
/// Unsent bytes at which an engine that reads nothing is given up.
const UNSENT_LIMIT: usize = 4 << 20;

/// One engine on the other side.
pub struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    unsent: Queue,
    closed: bool,
}

impl Connection {
    /// Takes a connected socket over.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            unsent: Queue::default(),
            closed: false,
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the other side has closed the connection, read or not.
    pub fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(
            self.descriptor(),
            PollFlags::empty(),
        )];
        let now = Timespec::default();
        while poll(&mut polled, Some(&now)) == Err(rustix::io::Errno::INTR) {}
        polled[0].revents().contains(PollFlags::HUP)
    }

    pub fn has_unsent(&self) -> bool {
        !self.closed && !self.unsent.is_empty()
    }

    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.unsent.len() < UNSENT_PAUSE {
            flags |= PollFlags::IN;
        }
        if self.has_unsent() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Reads what has arrived. Requests that are whole are taken with [`Connection::next`].
    pub fn read(&mut self) {
        match self.decoder.read(&self.socket) {
            Ok(count) if count > 0 => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            _ => self.closed = true,
        }
    }

    /// The next request. A connection that sends nonsense is closed.
    pub fn next(&mut self) -> Option<Envelope> {
        self.decoder.next().unwrap_or_else(|_| {
            self.closed = true;
            None
        })
    }

    /// The descriptor that belongs to the request just taken.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.decoder.take_descriptor()
    }

    /// Sends a message, as far as the other side reads; the rest waits.
    pub fn send(&mut self, message: &Message) {
        if self.closed {
            return;
        }
        match wire::encode(message) {
            Ok(frame) => self.unsent.push(&frame),
            Err(_) => self.closed = true,
        }
        self.flush();
        if self.unsent.len() > UNSENT_LIMIT {
            self.closed = true;
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while self.has_unsent() {
            match wire::send_some(&self.socket, self.unsent.waiting(), &[], flags) {
                Ok(count) => self.unsent.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }
}
