//! Configurations of images on their way, each once however many pulls of one user want it from one repository.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use cais_types::Digest;
use cais_types::oci::Descriptor;
use tokio::sync::OnceCell;

use super::config::Credentials;
use super::error::RegistryError;
use super::transfers::Source;

/// Those that some pull holds.
#[derive(Default)]
pub struct Configs(Mutex<HashMap<Key, Weak<OnceCell<Bytes>>>>);

/// What is the same for pulls that may share one: nobody gets by another's credentials what his own do not give.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    digest: Digest,
    authority: String,
    path: String,
    credentials: Option<Credentials>,
}

/// A pull's share in a configuration.
pub struct Share(Arc<OnceCell<Bytes>>);

impl Configs {
    /// A share, for as long as which others of the same user find it.
    pub fn join(&self, source: &Source, digest: Digest) -> Share {
        let Some(origin) = source.last() else {
            return Share(Arc::default());
        };
        let key = Key {
            digest,
            authority: origin.session.endpoint.server.authority.clone(),
            path: origin.path.clone(),
            credentials: origin.session.identity(&[]).credentials.cloned(),
        };
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        going.retain(|_, cell| cell.strong_count() > 0);
        if let Some(cell) = going.get(&key).and_then(Weak::upgrade) {
            return Share(cell);
        }
        let cell = Arc::default();
        going.insert(key, Arc::downgrade(&cell));
        Share(cell)
    }
}

impl Share {
    /// The configuration, from the first server that has it. Who waits for another that fails asks for itself.
    pub async fn get(&self, source: &Source, config: &Descriptor) -> Result<Bytes, RegistryError> {
        self.0
            .get_or_try_init(|| fetch(source, config))
            .await
            .cloned()
    }
}

async fn fetch(source: &Source, config: &Descriptor) -> Result<Bytes, RegistryError> {
    let mut failure = None;
    for repository in source {
        match repository.small_blob(config).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| RegistryError::Settings("no server to ask".into())))
}
