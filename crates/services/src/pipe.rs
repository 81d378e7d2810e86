//! Bytes between async streams and blocking work: bounded channels, so that neither side outruns the other.

use std::io::{self, Read, Write};
use std::pin::Pin;

use bytes::Bytes;
use cais_types::Result;
use futures_core::Stream;
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// A stream of answers, each of which may fail.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Chunks that may wait on either side.
const DEPTH: usize = 8;
/// Bytes collected before a chunk is sent.
const CHUNK: usize = 128 * 1024;

/// The reading end of an upload, for blocking work.
pub struct UploadReader {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl UploadReader {
    /// Starts to receive an upload. What nobody reads any more is thrown away: a client that still sends sees the answer, and
    /// one that goes is missed, which the server learns from the connection's input alone.
    pub fn new(upload: Answers<Bytes>) -> Self {
        Self::receive(upload, true)
    }

    /// Starts to receive something that ends when nobody reads it any more.
    pub fn while_read(download: Answers<Bytes>) -> Self {
        Self::receive(download, false)
    }

    fn receive(mut stream: Answers<Bytes>, to_end: bool) -> Self {
        let (sender, chunks) = mpsc::channel(DEPTH);
        tokio::spawn(async move {
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk).await.is_err() && !to_end {
                    return;
                }
            }
        });
        Self {
            chunks,
            current: Bytes::new(),
        }
    }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// The writing end of an answer, for blocking work. Fails when the client has gone.
pub struct AnswerWriter {
    sender: mpsc::Sender<Result<Bytes>>,
    buffer: Vec<u8>,
}

impl AnswerWriter {
    fn send(&self, item: Result<Bytes>) -> io::Result<()> {
        self.sender
            .blocking_send(item)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// Sends one item at once, behind whatever was written before.
    ///
    /// # Errors
    /// The client has gone.
    pub fn item(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.flush()?;
        self.send(Ok(bytes.into()))
    }
}

impl Write for AnswerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.send(Ok(chunk.into()))
    }
}

/// Runs blocking work that writes an answer; its failure is the stream's last item.
pub fn answer(
    work: impl FnOnce(&mut AnswerWriter) -> Result<()> + Send + 'static,
) -> Answers<Bytes> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let mut writer = AnswerWriter {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        };
        let result = work(&mut writer);
        let flushed = writer.flush();
        if let Err(error) = result
            && flushed.is_ok()
        {
            let _ = writer.send(Err(error));
        }
    });
    stream_of(receiver)
}

/// A channel's items as a stream.
pub fn stream_of<T: Send + 'static>(receiver: mpsc::Receiver<Result<T>>) -> Answers<T> {
    Box::pin(futures_util::stream::unfold(
        receiver,
        |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) },
    ))
}
