//! `POST /session`: a client's connection, given to the sessions of builds.

use std::io::Cursor;
use std::os::fd::{AsFd, OwnedFd};

use cais_api::backend::Hijack;
use cais_session::borrower::Sessions;
use cais_types::{ClientConnection, Error, Framing, Result};
use futures_util::future::BoxFuture;
use rustix::net::AddressFamily;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join};
use tokio::net::{TcpStream, UnixStream};

/// Takes the connection that the session of this id will have.
pub fn begin(sessions: Sessions, id: String) -> Hijack {
    let serve = move |connection: ClientConnection| -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let (socket, unread) = (connection.socket, Cursor::new(connection.unread));
            if family(&socket)? == AddressFamily::UNIX {
                let stream = std::os::unix::net::UnixStream::from(socket);
                stream.set_nonblocking(true).map_err(failed)?;
                let (reader, writer) = UnixStream::from_std(stream).map_err(failed)?.into_split();
                open(&sessions, &id, unread.chain(reader), writer).await
            } else {
                let stream = std::net::TcpStream::from(socket);
                stream.set_nonblocking(true).map_err(failed)?;
                let (reader, writer) = TcpStream::from_std(stream).map_err(failed)?.into_split();
                open(&sessions, &id, unread.chain(reader), writer).await
            }
        })
    };
    Hijack {
        framing: Framing::Raw,
        serve: Box::new(serve),
    }
}

async fn open(
    sessions: &Sessions,
    id: &str,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<()> {
    sessions.open(id, join(reader, writer)).await
}

fn family(socket: &OwnedFd) -> Result<AddressFamily> {
    let address = rustix::net::getsockname(socket.as_fd());
    Ok(address
        .map_err(|errno| failed(errno.into()))?
        .address_family())
}

fn failed(error: std::io::Error) -> Error {
    Error::internal(format!("session: {error}"))
}
