//! A connected byte stream to a daemon, unix or TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{ClientError, Result};
use crate::host::Host;

/// A connection of either kind.
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Connects; `request` (method and URL) is only for error texts.
    pub(crate) async fn connect(host: &Host, request: impl Fn() -> String) -> Result<Self> {
        match host {
            Host::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Self::Unix(stream)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err(ClientError::PermissionDenied {
                        host: host.to_string(),
                        request: request(),
                        path: path.display().to_string(),
                    })
                }
                Err(error) => Err(unreachable(host, error)),
            },
            Host::Tcp { address, .. } => match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    Ok(Self::Tcp(stream))
                }
                Err(error) => Err(unreachable(host, error)),
            },
            Host::Ssh(text) => Err(ClientError::Unsupported(format!(
                "cannot connect to {text}: hosts behind SSH are not supported yet"
            ))),
        }
    }
}

fn unreachable(host: &Host, source: io::Error) -> ClientError {
    ClientError::Unreachable {
        host: host.to_string(),
        source,
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
