//! The engine's end of the connection to one container's monitor: requests with sequence numbers one way, replies and
//! news the other. A [`MonitorReader`] belongs to the task that supervises the container; everybody else shares the
//! [`MonitorClient`].

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cais_monitor::protocol::{
    Answer, Envelope, Failure, FailureClass, Launch, MESSAGE_LIMIT, Message, Request,
};
use cais_types::{Error, ErrorClass};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Why a monitor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The connection is closed: the monitor has ended.
    #[error("the container's monitor is gone")]
    Gone,
    /// The connection broke while writing.
    #[error("cannot reach the container's monitor")]
    Io(#[from] io::Error),
    /// A request does not encode.
    #[error("cannot encode a request to the container's monitor")]
    Encode(#[from] serde_json::Error),
    /// The monitor said no.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl MonitorError {
    /// What kind of failure this is for a client.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(failure) => match failure.class {
                FailureClass::CommandNotFound
                | FailureClass::CommandNotExecutable
                | FailureClass::Invalid => ErrorClass::Invalid,
                FailureClass::NotRunning => ErrorClass::Conflict,
                FailureClass::Internal => ErrorClass::Internal,
            },
            Self::Gone => ErrorClass::Conflict,
            Self::Io(_) | Self::Encode(_) => ErrorClass::Internal,
        }
    }
}

impl From<MonitorError> for Error {
    fn from(error: MonitorError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

type ReplySender = oneshot::Sender<Result<Answer, Failure>>;

/// A reply that is under way.
#[derive(Debug)]
pub struct PendingReply(oneshot::Receiver<Result<Answer, Failure>>);

impl PendingReply {
    /// Waits for the answer.
    pub async fn wait(self) -> Result<Answer, MonitorError> {
        match self.0.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(MonitorError::Refused(failure)),
            Err(_) => Err(MonitorError::Gone),
        }
    }
}

/// The asking half of a connection.
#[derive(Debug)]
pub struct MonitorClient {
    stream: Arc<UnixStream>,
    writing: tokio::sync::Mutex<()>,
    sequence: AtomicU64,
    /// `None` once the connection is closed.
    pending: Arc<Mutex<Option<HashMap<u64, ReplySender>>>>,
}

/// The listening half of a connection.
#[derive(Debug)]
pub struct MonitorReader {
    stream: Arc<UnixStream>,
    buffer: Vec<u8>,
    /// Where the next message begins in `buffer`.
    start: usize,
    pending: Arc<Mutex<Option<HashMap<u64, ReplySender>>>>,
}

impl MonitorClient {
    /// Takes a connected stream socket over. Needs a tokio runtime with IO.
    ///
    /// # Errors
    /// Fails when the socket cannot be watched by the runtime.
    pub fn new(socket: OwnedFd) -> io::Result<(Arc<Self>, MonitorReader)> {
        let stream = StdStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self::over(UnixStream::from_std(stream)?))
    }

    /// Connects to a monitor that an earlier engine started.
    ///
    /// # Errors
    /// ENOENT and ECONNREFUSED mean that the monitor has ended.
    pub async fn connect(path: &Path) -> io::Result<(Arc<Self>, MonitorReader)> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    fn over(stream: UnixStream) -> (Arc<Self>, MonitorReader) {
        let stream = Arc::new(stream);
        let pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let client = Arc::new(Self {
            stream: Arc::clone(&stream),
            writing: tokio::sync::Mutex::new(()),
            sequence: AtomicU64::new(1),
            pending: Arc::clone(&pending),
        });
        let reader = MonitorReader {
            stream,
            buffer: Vec::new(),
            start: 0,
            pending,
        };
        (client, reader)
    }

    /// Ends the connection: a monitor that has not started init ends with it.
    pub fn hang_up(&self) {
        // A connection that is closed already is what is wanted.
        let _ = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Both);
    }

    /// Sends the first message of a fresh monitor; it is not answered. `mounts` is the namespace that the container's begin from.
    pub async fn launch(
        &self,
        launch: &Launch,
        mounts: Option<BorrowedFd<'_>>,
    ) -> Result<(), MonitorError> {
        self.write(launch, mounts).await
    }

    /// Sends a request and waits for its answer.
    pub async fn request(
        &self,
        request: Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Answer, MonitorError> {
        self.post(request, descriptor).await?.wait().await
    }

    /// Sends a request; the answer is waited for separately, so that several can be under way.
    pub async fn post(
        &self,
        request: Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<PendingReply, MonitorError> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match &mut *lock(&self.pending) {
            Some(pending) => pending.insert(sequence, sender),
            None => return Err(MonitorError::Gone),
        };
        let sent = self
            .write(&Envelope { sequence, request }, descriptor)
            .await;
        if let Err(error) = sent {
            if let Some(pending) = &mut *lock(&self.pending) {
                pending.remove(&sequence);
            }
            return Err(error);
        }
        Ok(PendingReply(receiver))
    }

    async fn write<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), MonitorError> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, message)?;
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        if length as usize > MESSAGE_LIMIT {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let _order = self.writing.lock().await;
        let mut sent = 0;
        while sent < bytes.len() {
            let descriptor = descriptor.filter(|_| sent == 0);
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    send(&self.stream, &bytes[sent..], descriptor)
                })
                .await
                .map_err(gone_when_closed)?;
        }
        Ok(())
    }
}

impl MonitorReader {
    /// Hands replies to those who wait for them and answers the next piece of news; `None` when the connection is
    /// closed, after which every open request fails with [`MonitorError::Gone`].
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.message().await {
                Ok(Message::Reply { sequence, result }) => {
                    let waiting = lock(&self.pending)
                        .as_mut()
                        .and_then(|p| p.remove(&sequence));
                    if let Some(sender) = waiting {
                        // A requester that went away does not want its answer.
                        let _ = sender.send(result);
                    }
                }
                Ok(news) => {
                    if matches!(news, Message::Exited(_)) {
                        self.close();
                    }
                    return Some(news);
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        tracing::debug!(%error, "monitor connection");
                    }
                    self.close();
                    return None;
                }
            }
        }
    }

    /// Fails every open and later request.
    fn close(&self) {
        lock(&self.pending).take();
    }

    async fn message(&mut self) -> io::Result<Message> {
        self.fill(4).await?;
        let mut length = [0; 4];
        length.copy_from_slice(&self.buffer[self.start..self.start + 4]);
        let length = u32::from_le_bytes(length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        self.fill(4 + length).await?;
        let body = &self.buffer[self.start + 4..self.start + 4 + length];
        let message = serde_json::from_slice(body)?;
        self.start += 4 + length;
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
        }
        Ok(message)
    }

    /// Reads until `wanted` bytes of the next message are there.
    async fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.buffer.len() - self.start < wanted {
            self.stream.readable().await?;
            if self.buffer.capacity() == self.buffer.len() {
                self.buffer.reserve(512.max(wanted));
            }
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for MonitorReader {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone_when_closed(error: io::Error) -> MonitorError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => MonitorError::Gone,
        _ => MonitorError::Io(error),
    }
}

fn send(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}
