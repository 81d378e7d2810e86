//! An attached client: output goes to its socket at once or into a bounded queue, input comes from it. Nothing a client does
//! or fails to do stops the container's other clients; a full queue stops the reading of the container's output.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cais_types::Framing;
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use super::detach::DetachKeys;
use super::json_file::OutputStream;
use super::protocol;

/// Bytes that may wait for a slow client before the container's output is no longer read.
pub const QUEUE_LIMIT: usize = 1 << 20;

/// Bytes read from a client at once.
pub const INPUT_READ: usize = 32 << 10;

/// Reads of 4 KiB after which a client that keeps sending is closed anyway.
const INPUT_DISCARDS: usize = 256;

const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// What reading a client's input gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for the process; may be none.
    Data(Vec<u8>),
    /// Bytes before the detach keys; the client wants to go.
    Detached(Vec<u8>),
    /// The client will send no more; bytes that were held back as a possible start of the detach keys.
    End(Vec<u8>),
}

/// One attached connection.
pub struct Client {
    socket: OwnedFd,
    framing: Framing,
    wants: [bool; 2],
    /// Empty once the client's input has ended, or when it gives none.
    detach: Option<DetachKeys>,
    unread: Vec<u8>,
    queue: Queue,
    gone: bool,
}

impl Client {
    /// Takes a connection over.
    pub fn new(socket: OwnedFd, request: protocol::Client) -> Self {
        Self {
            socket,
            framing: request.framing,
            wants: [request.stdout, request.stderr],
            detach: request.stdin.then(|| DetachKeys::new(request.detach_keys)),
            unread: request.unread,
            queue: Queue::default(),
            gone: false,
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the connection is of no use any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether input may still come.
    pub fn gives_input(&self) -> bool {
        self.detach.is_some() && !self.gone
    }

    /// Whether there is output that the socket has not taken yet.
    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty() && !self.gone
    }

    /// Whether reading more of this stream would let the queue grow beyond its limit.
    pub fn holds_up(&self, stream: OutputStream) -> bool {
        self.wants[stream.index()] && !self.gone && self.queue.len() >= QUEUE_LIMIT
    }

    /// What to poll for; a hang-up is always reported.
    pub fn interest(&self, input_wanted: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.has_queue() {
            flags |= PollFlags::OUT;
        }
        if input_wanted && self.gives_input() {
            flags |= PollFlags::IN;
        }
        flags
    }

    /// Sends output, or queues what the socket does not take.
    pub fn deliver(&mut self, stream: OutputStream, data: &[u8]) {
        if self.gone || !self.wants[stream.index()] || data.is_empty() {
            return;
        }
        let header = frame_header(stream, data.len());
        let header = match self.framing {
            Framing::Raw => &header[..0],
            Framing::Multiplexed => &header[..],
        };
        let mut sent = 0;
        if self.queue.is_empty() {
            sent = self.send(&[IoSlice::new(header), IoSlice::new(data)]);
        }
        self.queue.push(&header[sent.min(header.len())..]);
        self.queue.push(&data[sent.saturating_sub(header.len())..]);
    }

    /// Sends what is queued as far as the socket takes it.
    pub fn flush(&mut self) {
        while self.has_queue() {
            let queue = std::mem::take(&mut self.queue);
            let sent = self.send(&[IoSlice::new(queue.waiting())]);
            self.queue = queue;
            if sent == 0 {
                return;
            }
            self.queue.consume(sent);
        }
    }

    /// Reads input once; `None` when nothing is there.
    pub fn read_input(&mut self, buffer: &mut Vec<u8>) -> Option<Input> {
        let unread = std::mem::take(&mut self.unread);
        if !unread.is_empty() {
            return self.filter(&unread);
        }
        buffer.resize(INPUT_READ, 0);
        match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Some(self.end_input()),
            Ok((count, _)) => self.filter(&buffer[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(_) => {
                self.gone = true;
                Some(self.end_input())
            }
        }
    }

    /// Whether bytes that came with the request wait to be read.
    pub fn has_unread(&self) -> bool {
        self.gives_input() && !self.unread.is_empty()
    }

    /// Ends the connection in order: the peer reads all that was sent and then an end of file. Input that nobody read is
    /// thrown away first, because closing a socket with unread bytes looks like a broken connection to the peer.
    pub fn close(&mut self) {
        self.gone = true;
        shutdown(&self.socket, Shutdown::Both).ok();
        let mut buffer = [0; 4096];
        for _ in 0..INPUT_DISCARDS {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => {}
                _ => return,
            }
        }
    }

    /// The peer has closed both ways.
    pub fn hang_up(&mut self) {
        self.gone = true;
    }

    fn filter(&mut self, bytes: &[u8]) -> Option<Input> {
        let mut out = Vec::with_capacity(bytes.len());
        let detached = self.detach.as_mut()?.filter(bytes, &mut out);
        if detached {
            self.detach = None;
            return Some(Input::Detached(out));
        }
        Some(Input::Data(out))
    }

    fn end_input(&mut self) -> Input {
        let mut held = Vec::new();
        if let Some(mut keys) = self.detach.take() {
            keys.finish(&mut held);
        }
        Input::End(held)
    }

    /// Bytes the socket took; a broken connection takes none and is marked.
    fn send(&mut self, parts: &[IoSlice<'_>]) -> usize {
        loop {
            let mut control = SendAncillaryBuffer::default();
            match sendmsg(&self.socket, parts, &mut control, FLAGS).map_err(io::Error::from) {
                Ok(sent) => return sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
                Err(_) => {
                    self.gone = true;
                    return 0;
                }
            }
        }
    }
}

/// `[stream, 0, 0, 0, length as big-endian u32]` (Engine API, `ContainerAttach`).
pub fn frame_header(stream: OutputStream, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = length;
    [stream.frame_type(), 0, 0, 0, a, b, c, d]
}

/// Bytes waiting for a socket; the memory goes when the last byte has gone.
#[derive(Default)]
pub struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn client(framing: Framing, keys: &[u8]) -> (UnixStream, Client) {
        let (near, far) = UnixStream::pair().unwrap();
        let request = protocol::Client {
            framing,
            stdin: true,
            stdout: true,
            stderr: true,
            detach_keys: keys.to_vec(),
            unread: b"early ".to_vec(),
        };
        (near, Client::new(far.into(), request))
    }

    #[test]
    fn output_is_framed_and_survives_a_slow_reader_in_order() {
        let (mut near, mut client) = client(Framing::Multiplexed, b"");
        let payload = vec![b'z'; 100_000];
        let mut rounds = 0;
        while !client.holds_up(OutputStream::Stdout) {
            client.deliver(OutputStream::Stdout, &payload);
            client.deliver(OutputStream::Stderr, b"e");
            rounds += 1;
        }
        assert!(
            client.queue.len() < QUEUE_LIMIT + 110_000,
            "the queue is bounded"
        );
        let mut all = vec![0; rounds * (100_000 + 8 + 9)];
        let reader = std::thread::spawn(move || near.read_exact(&mut all).map(|()| all));
        while client.has_queue() {
            client.flush();
            std::thread::yield_now();
        }
        let all = reader.join().unwrap().unwrap();
        for round in all.chunks(100_000 + 8 + 9) {
            assert_eq!(round[..8], [1, 0, 0, 0, 0, 1, 0x86, 0xa0]);
            assert_eq!(round[8..100_008], payload);
            assert_eq!(round[100_008..], [2, 0, 0, 0, 0, 0, 0, 1, b'e']);
        }
        assert!(client.queue.bytes.capacity() == 0, "memory is given back");
    }

    #[test]
    fn input_starts_with_what_was_read_ahead_and_ends_with_a_half_close() {
        let (mut near, mut client) = client(Framing::Raw, b"\x10\x11");
        let mut buffer = Vec::new();
        assert_eq!(
            client.read_input(&mut buffer),
            Some(Input::Data(b"early ".to_vec()))
        );
        assert_eq!(client.read_input(&mut buffer), None);
        near.write_all(b"typed\x10").unwrap();
        assert_eq!(
            client.read_input(&mut buffer),
            Some(Input::Data(b"typed".to_vec()))
        );
        near.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            client.read_input(&mut buffer),
            Some(Input::End(b"\x10".to_vec()))
        );
        client.deliver(OutputStream::Stdout, b"still there");
        client.close();
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still there");
    }

    #[test]
    fn a_vanished_client_is_noticed_on_delivery() {
        let (near, mut client) = client(Framing::Raw, b"");
        drop(near);
        client.deliver(OutputStream::Stdout, b"x");
        assert!(client.is_gone() && !client.holds_up(OutputStream::Stdout));
    }
}
