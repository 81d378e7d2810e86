//! A client's connection: HTTP until a handler takes it over, then a plain socket that is given away.
//!
//! hyper gives a connection up only for `101`, while Docker also answers `200` to clients that ask for no upgrade. So the
//! task of the connection takes the socket back from hyper itself and writes the head of the answer by hand.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::backend::Hijack;

/// A connected socket of either kind.
pub enum ClientStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl ClientStream {
    /// Takes the socket out of the runtime.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Unix(stream) => stream.into_std()?.into(),
            Self::Tcp(stream) => stream.into_std()?.into(),
        })
    }
}

/// A client's socket as hyper reads and writes it.
pub struct ClientIo {
    pub stream: ClientStream,
    pub end: Arc<EndOfInput>,
}

/// The end of a client's input.
#[derive(Default)]
pub struct EndOfInput {
    /// Set while a request runs that may take the connection over: the end is then for whoever takes it, and must not
    /// look to hyper like a client that went away.
    pub kept: AtomicBool,
    /// Told when an end came that was kept.
    pub seen: Notify,
    /// Told of any other end, and of an error: the client is gone. hyper alone goes on when that happens within a body.
    pub gone: Notify,
}

/// A connection that leaves HTTP.
pub struct Takeover {
    pub hijack: Hijack,
    /// The head of the answer.
    pub head: String,
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            ClientStream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            ClientStream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let ended = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if ended && self.end.kept.load(Ordering::Acquire) {
            self.end.seen.notify_one();
            return Poll::Pending;
        }
        if ended || matches!(polled, Poll::Ready(Err(_))) {
            self.end.gone.notify_one();
        }
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            ClientStream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            ClientStream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            ClientStream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            ClientStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            ClientStream::Unix(stream) => Pin::new(stream).poll_flush(context),
            ClientStream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            ClientStream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            ClientStream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// How often the client is looked at before the task sleeps between looks.
const LOOKS: usize = 200;
/// The longest wait for a client that does not read, in milliseconds.
const PATIENCE: usize = 1000;

/// Waits until the client has read the head of the answer. docker-py reads heads through a buffer and what follows past it:
/// output that comes together with the head would be lost there.
async fn until_read(stream: &UnixStream) {
    let is_read = || !matches!(cais_sys::socket::unread_by_peer(stream), Ok(1..));
    for _ in 0..LOOKS {
        if is_read() {
            return;
        }
        tokio::task::yield_now().await;
    }
    for _ in 0..PATIENCE {
        if is_read() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Answers the head and gives the socket to its new owner.
///
/// # Errors
/// The client is gone, or the new owner failed.
pub async fn hand_over(
    mut io: ClientIo,
    unread: Vec<u8>,
    takeover: Takeover,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    io.write_all(takeover.head.as_bytes()).await?;
    if let ClientStream::Unix(stream) = &io.stream {
        until_read(stream).await;
    }
    let connection = cais_types::ClientConnection {
        socket: io.stream.into_fd()?,
        unread,
    };
    (takeover.hijack.serve)(connection).await?;
    Ok(())
}
