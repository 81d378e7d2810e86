//! The registry server (distribution-spec 1.1): HTTP on one side, a folder on the other. See docs/registry.md.

pub mod admin;
mod auth;
mod blobs;
mod call;
mod connection;
mod control;
mod error;
mod file_body;
mod gc;
mod listing;
mod manifests;
mod metrics;
mod name;
mod proxy;
mod referrers;
mod registry;
mod reply;
mod request_body;
mod route;
mod store;
mod tls;
mod uploads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cais_types::{Error, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use auth::{AuthConfig, TokenConfig};
pub use gc::{Collected, GcPolicy};
pub use proxy::UpstreamConfig;
pub use registry::Limits;
pub use tls::TlsFiles;

use auth::Auth;
use metrics::Metrics;
use proxy::Proxy;
use registry::Registry;
use store::Store;
use tls::Tls;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub root: PathBuf,
    /// `host:port`; a port of 0 is chosen by the kernel.
    pub listen: Vec<String>,
    pub tls: Option<TlsFiles>,
    pub auth: AuthConfig,
    /// Pulling needs no credentials.
    pub anonymous_pull: bool,
    pub limits: Limits,
    pub gc: GcPolicy,
    /// How often garbage is collected by itself.
    pub gc_interval: Option<Duration>,
    /// Registries that this one is a cache of.
    pub upstreams: Vec<UpstreamConfig>,
    /// The one of them that is asked for names that are not here.
    pub fallback: Option<String>,
}

/// A server that listens.
pub struct Server {
    registry: Arc<Registry>,
    listeners: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    control: UnixListener,
    gc_interval: Option<Duration>,
}

impl Server {
    /// Opens the folder and listens. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Conflict: another process has the folder; Invalid: files and addresses that do not serve.
    pub async fn bind(config: ServerConfig) -> Result<Self> {
        let tls = config.tls.map(Tls::open).transpose()?.map(Arc::new);
        let auth = Auth::open(&config.auth, config.anonymous_pull)?;
        let proxy = Proxy::open(&config.upstreams, config.fallback).await?;
        let store = Store::open(&config.root)?.ok_or_else(|| {
            Error::new(
                cais_types::ErrorClass::Conflict,
                format!("{} is served by another process", config.root.display()),
            )
        })?;
        let control = control::listen(&config.root)?;
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = TcpListener::bind(address).await;
            listeners.push(bound.map_err(|error| {
                Error::invalid(format!("can't listen on {address}: {error}")).with_source(error)
            })?);
        }
        let registry = Arc::new(Registry {
            store,
            auth,
            proxy,
            limits: config.limits,
            metrics: Metrics::default(),
            gc: config.gc,
        });
        Ok(Self {
            registry,
            listeners,
            tls,
            control,
            gc_interval: config.gc_interval,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(std::result::Result::ok).collect()
    }

    /// Something that reads certificate, names and keys again.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            registry: Arc::clone(&self.registry),
            tls: self.tls.clone(),
        }
    }

    /// Serves until `end` says so; requests in flight are finished, uploads stay for the next server.
    pub async fn serve(self, end: watch::Receiver<bool>) {
        let mut helpers = JoinSet::new();
        helpers.spawn(control::serve(self.control, Arc::clone(&self.registry)));
        helpers.spawn(collect_now_and_then(
            Arc::clone(&self.registry),
            self.gc_interval,
        ));
        let orphans = Arc::clone(&self.registry);
        let _runs_on = tokio::task::spawn_blocking(move || {
            if let Err(error) = orphans.store.drop_orphans() {
                tracing::warn!(%error, "files without a record stay");
            }
        });
        let mut listening = JoinSet::new();
        for listener in self.listeners {
            listening.spawn(connection::serve(
                listener,
                self.tls.clone(),
                Arc::clone(&self.registry),
                end.clone(),
            ));
        }
        while listening.join_next().await.is_some() {}
    }
}

async fn collect_now_and_then(registry: Arc<Registry>, interval: Option<Duration>) {
    let Some(interval) = interval else {
        return;
    };
    loop {
        tokio::time::sleep(interval).await;
        let registry = Arc::clone(&registry);
        let collected =
            tokio::task::spawn_blocking(move || registry.collect(&registry.gc).map(|_| ()));
        if let Ok(Err(error)) = collected.await {
            tracing::warn!(%error, "garbage collection");
        }
    }
}

/// See [`Server::reloader`].
pub struct Reloader {
    registry: Arc<Registry>,
    tls: Option<Arc<Tls>>,
}

impl Reloader {
    /// Reads the files again; what cannot be read stays as it was, and the log says so.
    pub fn reload(&self) {
        let tls = self.tls.as_ref().map_or(Ok(()), |tls| tls.reload());
        for result in [tls, self.registry.auth.reload()] {
            match result {
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "reload"),
            }
        }
        tracing::info!("read certificate and credentials again");
    }
}
