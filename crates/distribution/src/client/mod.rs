//! The registry client (distribution-spec 1.1): pull, push, authentication, mirrors. Async; what it needs of the image store
//! are the blocking traits in [`store`], called from threads made for blocking work.

mod config;
mod progress;
mod request;
pub mod store;

use std::sync::Arc;

use cais_types::{Error, Reference, Result};

pub use config::{ClientConfig, Credentials, Proxies};
pub use progress::{Event, ProgressSink, ProgressStream, Step, channel};
pub use request::{
    CopyAuth, Inspected, LoggedIn, PullRequest, PulledReference, PushRequest, PushedReference,
    RawManifest, SearchResult,
};
use store::{PullStore, PushStore};

/// A client of registries; clones share connections, tokens and transfers.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

fn not_yet(what: &str) -> Error {
    Error::unsupported(format!("{what} is not built yet"))
}

impl Client {
    /// A client; reaches nothing before it is asked to.
    ///
    /// # Errors
    /// Settings that cannot be: a mirror or a proxy that is no URL, an insecure registry that is no host.
    pub fn new(config: ClientConfig) -> Result<Self> {
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Pulls an image, or all tags of a repository. Dropped, it stops at once; what arrived of layers is kept for the next
    /// pull.
    ///
    /// # Errors
    /// In Docker's words: access denied, no such manifest, no such platform, the network, the store.
    pub async fn pull(
        &self,
        _request: PullRequest,
        _store: Arc<dyn PullStore>,
        _progress: ProgressSink,
    ) -> Result<Vec<PulledReference>> {
        let _ = &self.config;
        Err(not_yet("pull"))
    }

    /// Pushes an image, or all tags of a repository.
    ///
    /// # Errors
    /// In Docker's words: no such image, access denied, the network, the store.
    pub async fn push(
        &self,
        _request: PushRequest,
        _store: Arc<dyn PushStore>,
        _progress: ProgressSink,
    ) -> Result<Vec<PushedReference>> {
        Err(not_yet("push"))
    }

    /// Tells what a registry has under a name, without fetching it.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn inspect(
        &self,
        _reference: &Reference,
        _auth: Option<Credentials>,
    ) -> Result<Inspected> {
        Err(not_yet("distribution inspect"))
    }

    /// Proves credentials to a registry. `server` is as users write it: empty and `https://index.docker.io/v1/` are docker.io,
    /// else `host[:port]` or a URL of it.
    ///
    /// # Errors
    /// Unauthorized; the network.
    pub async fn login(&self, _server: &str, _credentials: Credentials) -> Result<LoggedIn> {
        Err(not_yet("login"))
    }

    /// Searches a registry's index; a term `host[:port]/term` searches that host.
    ///
    /// # Errors
    /// The network; a limit outside 1 to 100.
    pub async fn search(
        &self,
        _term: &str,
        _limit: Option<u32>,
        _auth: Option<Credentials>,
    ) -> Result<Vec<SearchResult>> {
        Err(not_yet("search"))
    }

    /// Fetches a manifest or an index, checked against the digest asked for.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn get_manifest(
        &self,
        _reference: &Reference,
        _auth: Option<Credentials>,
    ) -> Result<RawManifest> {
        Err(not_yet("manifest get"))
    }

    /// Puts a manifest or an index under a tag or its digest; what it refers to must be there.
    ///
    /// # Errors
    /// As [`Client::push`].
    pub async fn put_manifest(
        &self,
        _reference: &Reference,
        _manifest: &RawManifest,
        _auth: Option<Credentials>,
    ) -> Result<()> {
        Err(not_yet("manifest put"))
    }

    /// Brings a blob into `target`'s repository from `source`'s: nothing when it is there, a mount on the same registry, else
    /// a copy through this machine.
    ///
    /// # Errors
    /// As [`Client::pull`] and [`Client::push`].
    pub async fn copy_blob(
        &self,
        _source: &Reference,
        _target: &Reference,
        _blob: &cais_types::oci::Descriptor,
        _auth: CopyAuth,
    ) -> Result<()> {
        Err(not_yet("blob copy"))
    }
}
