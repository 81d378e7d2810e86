//! The bridge from a thread that writes a blob to the network: a bounded channel of parts, and a watch for a network that does
//! not take them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
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
    /// Whether the other end is gone.
    is_left: bool,
}

/// Who has to do something next, and since when.
#[derive(Clone, Copy)]
enum Turn {
    Writer,
    Network(Instant),
    Registry(Instant),
}

/// What a body and who watches it share.
#[derive(Clone)]
pub struct Flow(Arc<Shared>);

struct Shared {
    turn: Mutex<Turn>,
    /// None when the body was given up.
    pieces: Mutex<Option<Receiver<Piece>>>,
}

/// A channel of parts.
pub fn pipe() -> (PipeWriter, Receiver<Piece>) {
    let (sender, receiver) = channel(PARTS_MAX);
    let writer = PipeWriter {
        sender,
        buffer: BytesMut::with_capacity(PART_SIZE),
        is_left: false,
    };
    (writer, receiver)
}

/// A request body of what comes through a channel. It ends well only with [`Piece::End`]. `tell` gets the size of each part.
pub fn body(
    pieces: Receiver<Piece>,
    tell: impl Fn(u64) + Send + Sync + 'static,
) -> (reqwest::Body, Flow) {
    let flow = Flow(Arc::new(Shared {
        turn: Mutex::new(Turn::Writer),
        pieces: Mutex::new(Some(pieces)),
    }));
    let taker = Taker(flow.clone());
    let parts = stream::poll_fn(move |context| {
        let polled = taker.0.poll(context);
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
        *locked(&taker.0.0.turn) = turn;
        next
    });
    (reqwest::Body::wrap_stream(parts), flow)
}

/// The body's end of the channel; the writer ends with it.
struct Taker(Flow);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flow {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        match &mut *locked(&self.0.pieces) {
            Some(pieces) => pieces.poll_recv(context),
            None => Poll::Ready(None),
        }
    }

    /// Takes no more, so that the writer ends.
    pub fn close(&self) {
        locked(&self.0.pieces).take();
    }

    /// Returns when the other end has taken nothing for so long.
    pub async fn stalled(&self, timeout: Duration) {
        loop {
            let turn = *locked(&self.0.turn);
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
        self.sender.blocking_send(Piece::Part(part)).map_err(|_| {
            self.is_left = true;
            io::Error::new(io::ErrorKind::BrokenPipe, "the upload ended early")
        })
    }

    /// Whether the network took no more, so that a failure to write is not the writer's.
    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// Says that the blob is whole.
    pub fn end(&mut self) -> io::Result<()> {
        self.send()?;
        // A request of a known size does not wait for the end.
        let _ = self.sender.blocking_send(Piece::End);
        Ok(())
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
