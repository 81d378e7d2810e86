//! What a client keeps: the servers of each registry with their connections and tokens, and the transfers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cais_types::Reference;
use tokio::sync::Semaphore;

use super::address::Insecure;
use super::config::{ClientConfig, Credentials};
use super::configs::Configs;
use super::endpoint::{self, Endpoint};
use super::error::RegistryError;
use super::hosts;
use super::partial::Partials;
use super::repository::Repository;
use super::request::RawManifest;
use super::session::Session;
use super::transfers::{Source, Transfers, blocking};

type Endpoints = Arc<Vec<Arc<Endpoint>>>;
type Cell = Arc<tokio::sync::Mutex<Endpoints>>;

/// The state that clones of a client share.
pub struct Shared {
    pub config: ClientConfig,
    insecure: Insecure,
    endpoints: Mutex<HashMap<String, Cell>>,
    pub transfers: Transfers,
    pub configs: Configs,
    pub partials: Partials,
    pub uploads: Arc<Semaphore>,
}

impl Shared {
    /// Checks the settings; reaches nothing.
    pub fn new(config: ClientConfig) -> Result<Self, RegistryError> {
        hosts::check_mirrors(&config)?;
        endpoint::proxies(&config.proxies)?;
        let partials = Partials::new(config.partial_dir.clone());
        partials.sweep();
        Ok(Self {
            insecure: Insecure::new(&config.insecure_registries)?,
            endpoints: Mutex::default(),
            configs: Configs::default(),
            transfers: Transfers::new(config.max_concurrent_downloads, partials.clone()),
            partials,
            uploads: Arc::new(Semaphore::new(config.max_concurrent_uploads.max(1))),
            config,
        })
    }

    /// The servers of a registry in the order they are asked. What is configured for it is read every time, connections and
    /// tokens are kept while it is the same.
    pub async fn endpoints(&self, domain: &str) -> Result<Endpoints, RegistryError> {
        let cell = {
            let mut all = self
                .endpoints
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.entry(domain.to_owned()).or_default().clone()
        };
        let mut known = cell.lock().await;
        let (config, domain) = (self.config.clone(), domain.to_owned());
        let servers = blocking(move || hosts::servers(&config, &domain)).await??;
        if known.iter().map(|endpoint| &endpoint.server).eq(&servers) {
            return Ok(known.clone());
        }
        let mut endpoints = Vec::new();
        for server in servers {
            let endpoint = Endpoint::new(server, &self.config, &self.insecure).await?;
            endpoints.push(Arc::new(endpoint));
        }
        *known = Arc::new(endpoints);
        Ok(known.clone())
    }

    fn session(&self, endpoint: &Arc<Endpoint>, auth: Option<&Credentials>) -> Session {
        Session::new(endpoint.clone(), auth, self.config.attempts)
    }

    /// The repository of a reference on each server it can be pulled from.
    pub async fn pull_source(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
    ) -> Result<Source, RegistryError> {
        let endpoints = self.endpoints(reference.domain()).await?;
        let able = endpoints.iter().filter(|endpoint| endpoint.server.pull);
        let source: Source = able
            .map(|endpoint| Repository {
                session: self.session(endpoint, auth),
                path: reference.path().to_owned(),
            })
            .collect();
        if source.is_empty() {
            return Err(no_server(reference, "pull"));
        }
        Ok(source)
    }

    /// The repository of a reference on the server it is pushed to: the first that takes pushes.
    pub async fn push_target(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
    ) -> Result<Repository, RegistryError> {
        let endpoints = self.endpoints(reference.domain()).await?;
        let able = endpoints.iter().find(|endpoint| endpoint.server.push);
        let endpoint = able.ok_or_else(|| no_server(reference, "push"))?;
        Ok(Repository {
            session: self.session(endpoint, auth),
            path: reference.path().to_owned(),
        })
    }

    /// The registry itself.
    pub async fn origin(
        &self,
        domain: &str,
        auth: Option<&Credentials>,
    ) -> Result<Session, RegistryError> {
        let endpoints = self.endpoints(domain).await?;
        match endpoints.iter().rev().find(|e| e.server.origin) {
            Some(endpoint) => Ok(self.session(endpoint, auth)),
            None => Err(RegistryError::Settings(format!(
                "hosts.toml puts another server in the place of {domain}"
            ))),
        }
    }
}

fn no_server(reference: &Reference, what: &str) -> RegistryError {
    RegistryError::Settings(format!(
        "no server of {} is allowed to {what}",
        reference.domain()
    ))
}

/// What the first server that has it says of a reference; that server comes first in the source afterwards. The error is that
/// of the registry itself, which is asked last.
pub async fn find_manifest(
    source: Source,
    reference: &str,
) -> Result<(RawManifest, Source), RegistryError> {
    let count = source.len();
    for place in 0..count {
        match source[place].manifest(reference).await {
            Ok(manifest) => {
                let mut ordered = source;
                ordered.rotate_left(place);
                // Mirrors that failed are not asked again.
                ordered.truncate(count - place);
                return Ok((manifest, ordered));
            }
            Err(error) if place + 1 == count => return Err(error),
            Err(error) => {
                let server = &source[place].session.endpoint.server.authority;
                tracing::info!("{server}: {error}; asking the next server");
            }
        }
    }
    Err(RegistryError::Settings("no server to ask".into()))
}
