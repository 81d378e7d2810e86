//! The socket in a served folder: `cais registry gc|ls|rm` ask the server over it, one JSON document each way. Only who may
//! enter the folder reaches it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cais_types::{Error, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::admin::{self, Answer, Request};
use super::registry::Registry;

/// The socket's name in the folder.
const SOCKET: &str = "control.sock";
/// Bytes of a request.
const REQUEST_MAX: u64 = 64 << 10;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens in a folder that this process has open, so that a socket that is there is an earlier server's.
///
/// # Errors
/// Internal: the kernel refuses.
pub fn listen(root: &Path) -> Result<UnixListener> {
    let path = root.join(SOCKET);
    let failed = |error: std::io::Error| {
        Error::internal(format!("control socket {}: {error}", path.display())).with_source(error)
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let socket = cais_sys::socket::listen(&path, 0o600).map_err(failed)?;
    let socket = std::os::unix::net::UnixListener::from(socket);
    socket.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(socket).map_err(failed)
}

/// Answers until it is dropped.
pub async fn serve(listener: UnixListener, registry: Arc<Registry>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, registry).await {
                        tracing::debug!(%error, "control");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, registry: Arc<Registry>) -> std::io::Result<()> {
    let mut text = Vec::new();
    let mut limited = (&mut stream).take(REQUEST_MAX);
    tokio::time::timeout(PATIENCE, limited.read_to_end(&mut text)).await??;
    let request: Request = serde_json::from_slice(&text)?;
    let answered = tokio::task::spawn_blocking(move || {
        admin::answer(&registry.store, &request, |policy| registry.collect(policy))
    });
    stream
        .write_all(&serde_json::to_vec(&answered.await?)?)
        .await?;
    stream.shutdown().await
}

/// Whether a server answers in a folder.
pub fn is_served(root: &Path) -> bool {
    cais_sys::socket::connect(&root.join(SOCKET)).is_ok()
}

/// Asks the server of a folder. Blocking.
///
/// # Errors
/// Unavailable: it does not answer.
pub fn ask(root: &Path, request: &Request) -> Result<Answer> {
    let path = root.join(SOCKET);
    let failed = |error: std::io::Error| {
        Error::new(
            cais_types::ErrorClass::Unavailable,
            format!("the server of {} does not answer: {error}", root.display()),
        )
        .with_source(error)
    };
    let socket = cais_sys::socket::connect(&path).map_err(failed)?;
    let mut stream = std::os::unix::net::UnixStream::from(socket);
    let mut exchange = || -> std::io::Result<Answer> {
        stream.write_all(&serde_json::to_vec(request)?)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    exchange().map_err(failed)
}
