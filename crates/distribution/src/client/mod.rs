//! The registry client (distribution-spec 1.1): pull, push, authentication, mirrors. Async; what it needs of the image store
//! are the blocking traits in [`store`], called from threads made for blocking work.

mod account;
mod address;
mod auth;
mod body;
mod challenge;
mod config;
mod configs;
mod copy;
mod download;
mod endpoint;
mod error;
mod files;
mod hosts;
mod partial;
mod pipe;
mod progress;
mod pull;
mod push;
mod reader;
mod registry;
mod repository;
mod request;
mod retry;
mod session;
pub mod store;
mod subject;
mod tls;
mod tls_words;
mod transfers;
mod upload;
pub mod upstream;

use std::sync::Arc;
use std::time::SystemTime;

use cais_types::oci::Descriptor;
use cais_types::{Reference, Result};

pub use config::{ClientConfig, Credentials, Proxies};
use error::RegistryError;
pub use files::RemoteFile;
pub use progress::{Event, ProgressSink, ProgressStream, Step, channel};
use registry::Shared;
pub use request::{
    CopyAuth, Inspected, LoggedIn, PullRequest, PulledReference, PushRequest, PushedReference,
    RawManifest, SearchResult,
};
use store::{PullStore, PushStore};

/// A client of registries; clones share connections, tokens and transfers.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// A client; reaches nothing before it is asked to.
    ///
    /// # Errors
    /// Settings that cannot be: a mirror or a proxy that is no URL, an insecure registry that is no host.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let shared = Shared::new(config).map_err(RegistryError::plain)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Pulls an image, or all tags of a repository. Dropped, it stops at once; what arrived of layers is kept for the next
    /// pull.
    ///
    /// # Errors
    /// In Docker's words: access denied, no such manifest, no such platform, the network, the store.
    pub async fn pull(
        &self,
        request: PullRequest,
        store: Arc<dyn PullStore>,
        progress: ProgressSink,
    ) -> Result<Vec<PulledReference>> {
        let reference = match request.all_tags {
            true => request.reference.clone(),
            false => request.reference.clone().with_default_tag(),
        };
        Box::pin(pull::pull(&self.shared, &request, store, &progress))
            .await
            .map_err(|error| error.of_pull(&reference))
    }

    /// Pushes an image, or all tags of a repository.
    ///
    /// # Errors
    /// In Docker's words: no such image, access denied, the network, the store.
    pub async fn push(
        &self,
        request: PushRequest,
        store: Arc<dyn PushStore>,
        progress: ProgressSink,
    ) -> Result<Vec<PushedReference>> {
        Box::pin(push::push(&self.shared, &request, store, &progress))
            .await
            .map_err(RegistryError::of_push)
    }

    /// Bytes of layers that did not arrive whole and are kept for the next pull. Blocking.
    pub fn partial_size(&self) -> u64 {
        self.shared.partials.size()
    }

    /// Deletes those of them that no pull is at and that `accepts` by the time of their last byte; answers the bytes freed.
    /// Blocking.
    pub fn drop_partials(&self, accepts: &dyn Fn(SystemTime) -> bool) -> u64 {
        self.shared.partials.drop_idle(accepts)
    }

    /// Tells what a registry has under a name, without fetching it.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn inspect(
        &self,
        reference: &Reference,
        auth: Option<Credentials>,
    ) -> Result<Inspected> {
        account::inspect(&self.shared, reference, auth.as_ref())
            .await
            .map_err(RegistryError::plain)
    }

    /// Proves credentials to a registry. `server` is as users write it: empty and `https://index.docker.io/v1/` are docker.io,
    /// else `host[:port]` or a URL of it.
    ///
    /// # Errors
    /// Unauthorized; the network.
    pub async fn login(&self, server: &str, credentials: Credentials) -> Result<LoggedIn> {
        account::login(&self.shared, server, &credentials)
            .await
            .map_err(RegistryError::plain)
    }

    /// Searches a registry's index; a term `host[:port]/term` searches that host. The limit is 25 unless given.
    ///
    /// # Errors
    /// The network; a limit outside 1 to 100.
    pub async fn search(
        &self,
        term: &str,
        limit: Option<u32>,
        auth: Option<Credentials>,
    ) -> Result<Vec<SearchResult>> {
        account::search(&self.shared, term, limit, auth.as_ref())
            .await
            .map_err(RegistryError::plain)
    }

    /// Fetches a manifest or an index, checked against the digest asked for.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn get_manifest(
        &self,
        reference: &Reference,
        auth: Option<Credentials>,
    ) -> Result<RawManifest> {
        let get = async {
            let source = self.shared.pull_source(reference, auth.as_ref()).await?;
            registry::find_manifest(source, pull::wanted_word(reference)).await
        };
        match get.await {
            Ok((manifest, _)) => Ok(manifest),
            Err(error) => Err(error.of_pull(&reference.clone().with_default_tag())),
        }
    }

    /// Puts a manifest or an index under a tag or its digest; what it refers to must be there.
    ///
    /// # Errors
    /// As [`Client::push`].
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &RawManifest,
        auth: Option<Credentials>,
    ) -> Result<()> {
        let put = async {
            let target = self.shared.push_target(reference, auth.as_ref()).await?;
            subject::put_manifest(&target, pull::wanted_word(reference), manifest).await
        };
        put.await.map_err(RegistryError::plain)
    }

    /// Brings a blob into `target`'s repository from `source`'s: nothing when it is there, a mount on the same registry, else
    /// a copy through this machine.
    ///
    /// # Errors
    /// As [`Client::pull`] and [`Client::push`].
    pub async fn copy_blob(
        &self,
        source: &Reference,
        target: &Reference,
        blob: &Descriptor,
        auth: CopyAuth,
    ) -> Result<()> {
        Box::pin(copy::copy_blob(&self.shared, source, target, blob, &auth))
            .await
            .map_err(RegistryError::plain)
    }
}
