//! The bridge from a thread that writes a blob to the network: a bounded channel of parts, and a watch for a network that does
//! not take them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::reader::Piece;

const PART_SIZE: usize = 128 << 10;
const PARTS_MAX: usize = 8;
/// A registry that has all of a blob may take longer to answer than to take more of it.
const ANSWER_PATIENCE: u32 = 5;

/// Where a blob is written to; [`PipeWriter::end`] says that it is whole.
pub struct PipeWriter {
    sender: Sender<Piece>,
    buffer: BytesMut,
}

/// Who has to do something next, and since when.
#[derive(Clone, Copy)]
enum Turn {
    Writer,
    Network(Instant),
    Registry(Instant),
}

/// What a body tells of how it is taken.
#[derive(Clone)]
pub struct Flow(Arc<Mutex<Turn>>);

/// A channel of parts.
pub fn pipe() -> (PipeWriter, Receiver<Piece>) {
    let (sender, receiver) = channel(PARTS_MAX);
    let writer = PipeWriter {
        sender,
        buffer: BytesMut::with_capacity(PART_SIZE),
    };
    (writer, receiver)
}

/// A request body of what comes through a channel. It ends well only with [`Piece::End`]. `tell` gets the size of each part.
pub fn body(
    mut pieces: Receiver<Piece>,
    tell: impl Fn(u64) + Send + Sync + 'static,
) -> (reqwest::Body, Flow) {
    let flow = Flow(Arc::new(Mutex::new(Turn::Writer)));
    let turns = flow.clone();
    let parts = stream::poll_fn(move |context| {
        let polled = pieces.poll_recv(context);
        let broken = || Some(Err(io::Error::other("the blob broke off")));
        let (turn, next) = match polled {
            Poll::Pending => (Turn::Writer, Poll::Pending),
            Poll::Ready(Some(Piece::Part(part))) => {
                tell(part.len() as u64);
                (Turn::Network(Instant::now()), Poll::Ready(Some(Ok(part))))
            }
            Poll::Ready(Some(Piece::End)) => (Turn::Registry(Instant::now()), Poll::Ready(None)),
            Poll::Ready(Some(Piece::Broken) | None) => (Turn::Writer, Poll::Ready(broken())),
        };
        turns.set(turn);
        next
    });
    (reqwest::Body::wrap_stream(parts), flow)
}

impl Flow {
    fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    /// Returns when the other end has taken nothing for so long.
    pub async fn stalled(&self, timeout: Duration) {
        loop {
            let turn = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = match turn {
                Turn::Writer => Instant::now() + timeout,
                Turn::Network(since) => since + timeout,
                Turn::Registry(since) => since + timeout * ANSWER_PATIENCE,
            };
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
    }
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        let part: Bytes = self.buffer.split().freeze();
        if part.is_empty() {
            return Ok(());
        }
        self.buffer.reserve(PART_SIZE);
        self.piece(Piece::Part(part))
    }

    fn piece(&self, piece: Piece) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload ended early");
        self.sender.blocking_send(piece).map_err(gone)
    }

    /// Says that the blob is whole.
    pub fn end(mut self) -> io::Result<()> {
        self.send()?;
        self.piece(Piece::End)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART_SIZE.saturating_sub(self.buffer.len());
        let count = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() >= PART_SIZE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
