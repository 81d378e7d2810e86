//! The bridge from the network to the thread that unpacks a layer: a bounded channel of the bytes as they came, read as a
//! stream, and kept in the partial on the way.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::partial::Partial;

/// Parts between network and unpacking; each is at most some hundred KiB.
const PARTS_MAX: usize = 8;

/// What comes through the channel.
pub enum Piece {
    Part(Bytes),
    /// Everything came.
    End,
    /// Nothing more will come.
    Broken,
}

/// A layer as a stream: what the partial has, then what the network brings.
pub struct LayerReader {
    partial: Option<Partial>,
    /// Bytes of the partial that are read before the network's.
    prefix: u64,
    /// Bytes that were read.
    served: u64,
    /// Bytes that came, with the prefix.
    came: u64,
    current: Bytes,
    pieces: Receiver<Piece>,
    given_up: Arc<AtomicBool>,
    ended: bool,
}

impl LayerReader {
    /// A stream that begins with the partial's bytes.
    pub fn new(partial: Option<Partial>, given_up: Arc<AtomicBool>) -> (Sender<Piece>, Self) {
        let (sender, pieces) = channel(PARTS_MAX);
        let prefix = partial.as_ref().map_or(0, |partial| partial.length);
        let reader = Self {
            partial,
            prefix,
            served: 0,
            came: prefix,
            current: Bytes::new(),
            pieces,
            given_up,
            ended: false,
        };
        (sender, reader)
    }

    /// Whether bytes of an earlier transfer were used.
    pub fn used_prefix(&self) -> bool {
        self.prefix > 0
    }

    /// Bytes that were read to the very end; none when they were not.
    pub fn whole(&self) -> Option<u64> {
        self.ended.then_some(self.served)
    }

    /// The partial, when there is one.
    pub fn into_partial(self) -> Option<Partial> {
        self.partial
    }

    /// Keeps bytes for the next pull; a disk that does not take them ends it, what is kept already stays.
    fn keep(&mut self, part: &Bytes) {
        let at = self.came;
        self.came += part.len() as u64;
        let Some(partial) = &mut self.partial else {
            return;
        };
        if let Err(error) = partial.write_at(at, part) {
            tracing::debug!("keeping a part of a layer: {error}");
            self.partial = None;
        }
    }

    /// Keeps what is still in the channel, and lets go of the partial.
    fn give_up(&mut self) -> io::Error {
        while let Ok(piece) = self.pieces.try_recv() {
            if let Piece::Part(part) = piece {
                self.keep(&part);
            }
        }
        self.partial = None;
        io::Error::other("the transfer was given up")
    }

    fn read_prefix(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(partial) = &mut self.partial else {
            return Err(io::Error::other("the partial layer is gone"));
        };
        let left = usize::try_from(self.prefix - self.served).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        match partial.read_at(self.served, &mut buffer[..wanted])? {
            0 if wanted > 0 => Err(io::Error::other("the partial layer is cut")),
            count => {
                self.served += count as u64;
                Ok(count)
            }
        }
    }
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(self.give_up());
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.served < self.prefix {
            return self.read_prefix(buffer);
        }
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Piece::Part(part)) => {
                    self.keep(&part);
                    self.current = part;
                }
                Some(Piece::End) => {
                    self.ended = true;
                    return Ok(0);
                }
                Some(Piece::Broken) => return Err(io::Error::other("the layer broke off")),
                None => return Err(self.give_up()),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        self.served += count as u64;
        Ok(count)
    }
}
