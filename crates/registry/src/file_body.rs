//! A file, or a part of it, as the body of an answer: one chunk is read ahead, in a thread that may block, while the one
//! before it goes out.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

/// Bytes read at a time: few switches between threads, and little memory for a client that takes its time.
const CHUNK: u64 = 256 << 10;

/// See the module.
pub struct FileBody {
    file: Arc<File>,
    /// Where the next read starts.
    next: u64,
    end: u64,
    /// Bytes that the client has not got.
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// The bytes from `start` up to `end`.
    pub fn new(file: File, start: u64, end: u64) -> Self {
        Self {
            file: Arc::new(file),
            next: start,
            end,
            left: end - start,
            reading: None,
        }
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next chunk.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.read_ahead();
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let chunk = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let chunk = match chunk {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.left -= chunk.len() as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(chunk)))
    }

    fn read_ahead(&mut self) {
        if self.reading.is_some() || self.next >= self.end {
            return;
        }
        let length = CHUNK.min(self.end - self.next);
        let (file, start) = (Arc::clone(&self.file), self.next);
        self.next += length;
        self.reading = Some(tokio::task::spawn_blocking(move || {
            read_part(&file, start, length)
        }));
    }
}

/// Reads a part of a file that must be there whole. Blocking.
///
/// # Errors
/// Those of the disk; the file is shorter.
pub fn read_part(file: &File, start: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = start + buffer.len() as u64;
        let count = rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    buffer.truncate(length);
    Ok(buffer.into())
}
