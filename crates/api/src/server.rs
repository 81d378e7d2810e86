//! The server: accepts clients, finds the route of each request, and puts Docker's headers on the answers.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cais_types::{Error, Framing, Result};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backend::{Backends, Hijack};
use crate::connection::{ClientIo, ClientStream, EndOfInput, Takeover, hand_over};
use crate::listen::{Listener, host_is_ours};
use crate::reply::{self, Body, Reply};
use crate::request::{Call, Query, RequestBody};
use crate::route::{Route, match_path};
use crate::routers;
use crate::version::{self, Version};

/// How long a client may take to send the head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a connection whose client has ended its input waits to be taken over.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// What all connections share.
struct Server {
    backends: Backends,
    routes: Vec<Route>,
    /// Names of this host that a `Host` header may say.
    names: Vec<String>,
}

/// Serves clients until a listener fails. Dropping the future ends every connection that has not left HTTP.
///
/// # Errors
/// Internal: a listener failed for good.
pub async fn serve(listeners: Vec<Listener>, backends: Backends) -> Result<()> {
    let node = rustix::system::uname();
    let server = Arc::new(Server {
        backends,
        routes: routers::all(),
        names: vec![node.nodename().to_string_lossy().into_owned()],
    });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&server)));
    }
    match tasks.join_next().await {
        None => Err(Error::invalid("no address to listen on")),
        Some(Ok(ended)) => ended,
        Some(Err(error)) => Err(Error::internal("the listener ended").with_source(error)),
    }
}

async fn accept(listener: Listener, server: Arc<Server>) -> Result<()> {
    let mut clients = JoinSet::new();
    loop {
        let next = match &listener {
            Listener::Unix(socket) => socket
                .accept()
                .await
                .map(|(stream, _)| ClientStream::Unix(stream)),
            Listener::Tcp(socket) => socket.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                ClientStream::Tcp(stream)
            }),
        };
        while clients.try_join_next().is_some() {}
        match next {
            Ok(stream) => {
                clients.spawn(Arc::clone(&server).client(stream));
            }
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(Error::internal("accept failed").with_source(error)),
        }
    }
}

/// Whether a later accept may succeed: the client gave up, or descriptors or memory are short for now.
fn passes(error: &io::Error) -> bool {
    let short = [
        libc_errno::EMFILE,
        libc_errno::ENFILE,
        libc_errno::ENOBUFS,
        libc_errno::ENOMEM,
    ];
    error.kind() == io::ErrorKind::ConnectionAborted
        || error
            .raw_os_error()
            .is_some_and(|errno| short.contains(&errno))
}

/// Error numbers (errno(3)).
mod libc_errno {
    use rustix::io::Errno;
    pub const EMFILE: i32 = Errno::MFILE.raw_os_error();
    pub const ENFILE: i32 = Errno::NFILE.raw_os_error();
    pub const ENOBUFS: i32 = Errno::NOBUFS.raw_os_error();
    pub const ENOMEM: i32 = Errno::NOMEM.raw_os_error();
}

/// What the requests of one connection share.
struct Client {
    server: Arc<Server>,
    tcp: bool,
    end: Arc<EndOfInput>,
    takeover: mpsc::Sender<Takeover>,
}

impl Server {
    async fn client(self: Arc<Self>, stream: ClientStream) {
        let end = Arc::new(EndOfInput::default());
        let (takeover, mut taken) = mpsc::channel(1);
        let client = Arc::new(Client {
            server: self,
            tcp: matches!(stream, ClientStream::Tcp(_)),
            end: Arc::clone(&end),
            takeover,
        });
        let ended = Arc::clone(&end);
        let service = service_fn(move |request| {
            // Before the first poll of the answer, because hyper reads on before that.
            client
                .end
                .kept
                .store(may_hijack(&request), Ordering::Release);
            let client = Arc::clone(&client);
            async move { Ok::<_, Infallible>(client.answer(request).await) }
        });
        let io = TokioIo::new(ClientIo { stream, end });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(io, service);
        let takeover = tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            Some(takeover) = taken.recv() => takeover,
            () = abandoned(&ended) => return,
            () = ended.gone.notified() => return,
        };
        let parts = connection.into_parts();
        let unread = parts.read_buf.to_vec();
        if let Err(error) = hand_over(parts.io.into_inner(), unread, takeover).await {
            tracing::debug!(%error, "hijacked connection");
        }
    }
}

/// Whether a request may take its connection over.
fn may_hijack(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    let exec = path.ends_with("/start") && path.contains("/exec/");
    let stream = path.ends_with("/attach") || path.ends_with("/session");
    request.method() == Method::POST && (stream || exec)
}

/// Ends when a client's input has ended and nobody has taken the connection over long after.
async fn abandoned(end: &EndOfInput) {
    end.seen.notified().await;
    tokio::time::sleep(TAKEOVER_TIMEOUT).await;
}

impl Client {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let head_only = method == Method::HEAD;
        let mut response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(error) => {
                if error.class() == cais_types::ErrorClass::Internal {
                    tracing::error!(%method, path, error = %chain(&error), "request failed");
                }
                reply::error(&error)
            }
        };
        self.end.kept.store(false, Ordering::Release);
        if head_only {
            *response.body_mut() = http_body_util::Empty::new()
                .map_err(|never: Infallible| match never {})
                .boxed_unsync();
        }
        add_headers(response.headers_mut());
        let status = response.status().as_u16();
        tracing::debug!(%method, path, status, micros = started.elapsed().as_micros(), "request");
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body);
        self.check_origin(&head.headers)?;
        let decoded = percent_decode_str(head.uri.path()).decode_utf8();
        let decoded = decoded.map_err(|_| Error::invalid("the path is not UTF-8"))?;
        if head.method == Method::OPTIONS {
            return Ok(reply::bytes(
                StatusCode::OK,
                "text/plain",
                bytes::Bytes::new(),
            ));
        }
        let (version, path) = version::split(&decoded)?;
        let (route, params) = self.find(&head.method, path)?;
        let upgrade = head.headers.get(header::UPGRADE).map(|protocol| {
            // Whatever else a client asks for, what it gets is a plain stream.
            if protocol == "h2c" { "h2c" } else { "tcp" }
        });
        let call = Call {
            backends: self.server.backends.clone(),
            version,
            params,
            query: Query::parse(head.uri.query().unwrap_or("")),
            headers: head.headers,
            body,
        };
        match (route.handler)(call).await? {
            Reply::Http(response) => Ok(response),
            Reply::Hijack(hijack) => self.take_over(hijack, upgrade, version).await,
        }
    }

    fn find(&self, method: &Method, path: &str) -> Result<(&Route, Vec<String>)> {
        let mut routes = self
            .server
            .routes
            .iter()
            .filter(|route| route.method == *method);
        let found = routes.find_map(|route| Some((route, match_path(route.pattern, path)?)));
        found.ok_or_else(|| Error::not_found("page not found"))
    }

    /// Gives the connection to the task that owns it; the request never gets another answer.
    async fn take_over(
        &self,
        hijack: Hijack,
        upgrade: Option<&str>,
        version: Version,
    ) -> Result<Response<Body>> {
        let head = hijack_head(hijack.framing, upgrade, version);
        let sent = self.takeover.send(Takeover { hijack, head }).await;
        sent.map_err(|_| Error::internal("the connection is gone"))?;
        pending().await
    }

    /// Guards TCP against web pages: one that rebinds its name to this host says that name in `Host`, any other one
    /// says where it comes from in `Origin`.
    fn check_origin(&self, headers: &HeaderMap) -> Result<()> {
        if !self.tcp {
            return Ok(());
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let forbidden = |what: String| Error::new(cais_types::ErrorClass::Forbidden, what);
        let host = text(header::HOST).unwrap_or("");
        if !host_is_ours(host, &self.server.names) {
            return Err(forbidden(format!(
                "host {host:?} is not a name of this daemon"
            )));
        }
        match text(header::ORIGIN) {
            Some(origin) => Err(forbidden(format!(
                "requests of web pages ({origin}) are refused"
            ))),
            None => Ok(()),
        }
    }
}

fn hijack_head(framing: Framing, upgrade: Option<&str>, version: Version) -> String {
    let Some(protocol) = upgrade else {
        return "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            .to_owned();
    };
    let content_type = reply::output_type(framing, version);
    format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
}

fn add_headers(headers: &mut HeaderMap) {
    let server = concat!("cais/", env!("CARGO_PKG_VERSION"), " (linux)");
    let fixed = [
        ("api-version", cais_types::api::API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", server),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An error with all its causes, for the log.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        // A cause that the sentence already tells is not told again.
        let own = next.to_string();
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = next.source();
    }
    text
}
