//! Connections: accept, TLS, HTTP/1.1 with bounds on heads and time, and a graceful end.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

use super::registry::Registry;
use super::tls::Tls;

/// How long a client may take for the head of a request, and for the handshake of TLS.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a head, and of what is read of a body at a time.
const BUFFER: usize = 128 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long requests in flight may take once the server ends.
const GRACE: Duration = Duration::from_secs(20);

/// Accepts until the server ends, then lets requests in flight finish.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    registry: Arc<Registry>,
    mut end: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut end) => break,
        };
        while clients.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let _faster = stream.set_nodelay(true);
                let client = Client {
                    registry: Arc::clone(&registry),
                    peer: peer.to_string(),
                    end: end.clone(),
                };
                let tls = tls.clone();
                clients.spawn(async move {
                    client.registry.metrics.connected();
                    let registry = Arc::clone(&client.registry);
                    match tls {
                        None => client.talk(stream).await,
                        Some(tls) => client.talk_encrypted(tls, stream).await,
                    }
                    registry.metrics.disconnected();
                });
            }
            Err(error) => {
                // The client gave up, or descriptors are short for now.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let finished = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("connections are cut off");
    }
}

/// Waits until the server ends.
async fn ended(end: &mut watch::Receiver<bool>) {
    let _or_nobody_can_say_so = end.wait_for(|end| *end).await;
}

struct Client {
    registry: Arc<Registry>,
    peer: String,
    end: watch::Receiver<bool>,
}

impl Client {
    async fn talk_encrypted<S>(self, tls: Arc<Tls>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => self.talk(stream).await,
            Ok(Err(error)) => tracing::debug!(peer = self.peer, %error, "TLS"),
            Err(_) => tracing::debug!(peer = self.peer, "TLS: too slow"),
        }
    }

    async fn talk<S>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Patient {
            stream,
            limit: self.registry.limits.idle,
            stuck: None,
        };
        let (registry, peer) = (self.registry, self.peer);
        let service = service_fn(move |request| {
            let (registry, peer) = (Arc::clone(&registry), peer.clone());
            async move { Ok::<_, Infallible>(registry.answer(request, &peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = &mut connection => result,
            () = ended(&mut self.end) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection");
        }
    }
}

/// A stream whose peer must take what is written within a time, or it is cut off.
struct Patient<S> {
    stream: S,
    limit: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let limit = self.limit;
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
