//! The client itself: its host, the API version in use, and idle connections.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use futures_core::future::BoxFuture;
use http::Method;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::body::RequestBody;
use crate::call::Call;
use crate::error::{ClientError, Result};
use crate::host::Host;
use crate::socket::Socket;

/// The newest API this client speaks: 1.51.
pub const MAX_API_MINOR: u16 = 51;
/// The oldest API this client speaks: 1.24.
pub const MIN_API_MINOR: u16 = 24;

/// Idle connections kept for reuse; more are closed.
const IDLE_LIMIT: usize = 4;

/// Starts a daemon when none listens at the host; called at most once.
pub trait DaemonStarter: Send + Sync {
    /// Returns when the daemon is ready; the error is what the user is told.
    fn start(&self) -> BoxFuture<'_, std::result::Result<(), String>>;
}

/// Settings of a [`Client`].
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// Extra headers of every request (`HttpHeaders` of `config.json`).
    pub headers: Vec<(String, String)>,
    /// A fixed API version such as `1.44` (`DOCKER_API_VERSION`); without it the newest common one is found.
    pub api_version: Option<String>,
    /// Who starts a daemon if there is none.
    pub starter: Option<Arc<dyn DaemonStarter>>,
}

/// A client of one daemon. Cheap until the first call: nothing is connected before.
pub struct Client {
    host: Host,
    options: ClientOptions,
    /// Minor API version of the requests.
    minor: AtomicU16,
    pinned: bool,
    start_tried: AtomicBool,
    /// Whether the daemon has said that it is one of ours.
    cais: AtomicBool,
    idle: Mutex<Vec<SendRequest<RequestBody>>>,
}

impl Client {
    /// A client of the daemon at `host`.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] for an API version that is not `1.N`.
    pub fn new(host: Host, options: ClientOptions) -> Result<Self> {
        let (minor, pinned) = match options.api_version.as_deref().filter(|v| !v.is_empty()) {
            Some(version) => (minor_of(version)?, true),
            None => (MAX_API_MINOR, false),
        };
        Ok(Self {
            host,
            options,
            minor: AtomicU16::new(minor),
            pinned,
            start_tried: AtomicBool::new(false),
            cais: AtomicBool::new(false),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// The daemon's address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The API version that requests name now, `1.51` until a daemon asked for less.
    pub fn api_version(&self) -> String {
        format!("1.{}", self.minor.load(Ordering::Relaxed))
    }

    /// Minor part of [`Client::api_version`].
    pub fn api_minor(&self) -> u16 {
        self.minor.load(Ordering::Relaxed)
    }

    /// A call of any path below the version prefix, such as `/containers/json`.
    pub fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call::new(self, method, path.into())
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Lowers the version after the daemon refused ours; false when that cannot help.
    pub(crate) fn lower_version(&self, refusal: &str) -> bool {
        let Some(version) = refusal
            .strip_prefix("client version ")
            .filter(|text| text.contains("is too new"))
            .and_then(|text| text.rsplit(' ').next())
        else {
            return false;
        };
        let current = self.api_minor();
        match minor_of(version.trim_end_matches('.')) {
            Ok(minor) if !self.pinned && minor < current && minor >= MIN_API_MINOR => {
                self.minor.store(minor, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Agrees on the API version by `/_ping`. Only calls whose body cannot be sent twice need it beforehand.
    pub async fn negotiate(&self) -> Result<()> {
        if self.pinned {
            return Ok(());
        }
        let ping = Box::pin(self.ping()).await?;
        let server = ping.server.unwrap_or_default();
        self.cais
            .store(server.starts_with("cais/"), Ordering::Relaxed);
        if let Some(version) = ping.api_version
            && let Ok(minor) = minor_of(&version)
        {
            self.minor
                .store(minor.clamp(MIN_API_MINOR, MAX_API_MINOR), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the daemon is known, since [`Client::negotiate`], to be one of ours, which takes more than Docker's API.
    pub fn is_cais(&self) -> bool {
        self.cais.load(Ordering::Relaxed)
    }

    /// An idle connection if there is one.
    pub(crate) fn idle(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock().ok()?;
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(crate) fn keep(&self, sender: SendRequest<RequestBody>) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < IDLE_LIMIT
            && !sender.is_closed()
        {
            idle.push(sender);
        }
    }

    /// A new connection; its driver task ends with it.
    pub(crate) async fn connect(
        &self,
        request: impl Fn() -> String,
    ) -> Result<SendRequest<RequestBody>> {
        let socket = self.socket(&request).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket))
                .await
                .map_err(|error| ClientError::Transport {
                    request: request(),
                    cause: error.to_string(),
                })?;
        // The error of a broken connection reaches the caller through its own request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// A bare socket; starts a daemon when there is none and the options say how.
    pub(crate) async fn socket(&self, request: impl Fn() -> String) -> Result<Socket> {
        match (
            Socket::connect(&self.host, &request).await,
            &self.options.starter,
        ) {
            (Err(ClientError::Unreachable { .. }), Some(starter))
                if !self.start_tried.swap(true, Ordering::Relaxed) =>
            {
                let started = starter.start().await;
                // Another client may have started one meanwhile, which is just as good.
                match (Socket::connect(&self.host, request).await, started) {
                    (Err(_), Err(told)) => Err(ClientError::Configuration(told)),
                    (result, _) => result,
                }
            }
            (result, _) => result,
        }
    }
}

fn minor_of(version: &str) -> Result<u16> {
    version
        .trim_start_matches('v')
        .strip_prefix("1.")
        .and_then(|minor| minor.parse().ok())
        .ok_or_else(|| ClientError::Configuration(format!("invalid API version {version:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_only_goes_down_and_only_when_told_so() {
        let host: Host = "unix:///x".parse().unwrap();
        let client = Client::new(host.clone(), ClientOptions::default()).unwrap();
        assert!(!client.lower_version("No such container: x"));
        let refusal = "client version 1.51 is too new. Maximum supported API version is 1.41";
        assert!(client.lower_version(refusal));
        assert_eq!(client.api_version(), "1.41");
        assert!(!client.lower_version(refusal));
        let pinned = ClientOptions {
            api_version: Some("1.50".into()),
            ..ClientOptions::default()
        };
        assert!(!Client::new(host, pinned).unwrap().lower_version(refusal));
    }
}
