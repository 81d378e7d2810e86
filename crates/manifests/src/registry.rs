//! Registries that are asked without a daemon.

use cais_client::credentials::{Keychain, registry_key};
use cais_distribution::client::{
    Client, ClientConfig, CopyAuth, Credentials, Proxies, RawManifest,
};
use cais_types::oci::{Descriptor, Document, Platform};
use cais_types::{Digest, Error, ErrorClass, Reference};
use sha2::{Digest as _, Sha256};

use crate::entry::Entry;
use cais_console::error::{CliError, Result};

/// Requests that fail are tried so often in all: somebody waits.
const ATTEMPTS: u32 = 2;

/// What a registry has under a name.
pub enum Found {
    /// One manifest.
    Manifest(Box<Entry>),
    /// A list, and the manifests in it.
    List(Vec<Entry>),
}

/// The registry of one name.
pub struct Registry {
    client: Client,
    auth: Option<Credentials>,
}

impl Registry {
    /// The registry of a name, with the user's credentials for it; an insecure one may speak plain HTTP or have any
    /// certificate.
    ///
    /// # Errors
    /// Settings of the environment that make no sense.
    pub fn new(keychain: &Keychain<'_>, reference: &Reference, insecure: bool) -> Result<Self> {
        let domain = reference.domain();
        let config = ClientConfig {
            insecure_registries: insecure.then(|| domain.to_owned()).into_iter().collect(),
            proxies: Proxies::from_variables(variable),
            attempts: ATTEMPTS,
            ..ClientConfig::default()
        };
        let known = keychain.resolve(registry_key(domain));
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let auth = Credentials {
            username: known.username,
            password: known.password,
            identity_token: some(known.identitytoken),
            registry_token: some(known.registrytoken),
        };
        Ok(Self {
            client: Client::new(config).map_err(told)?,
            auth: Some(auth).filter(|auth| !auth.is_empty()),
        })
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// `no such manifest`, or why the registry did not answer.
    pub async fn find(&self, reference: &Reference) -> Result<Found> {
        let raw = self.get(reference).await?;
        match document(&raw)? {
            Document::Manifest(_) => {
                let entry = self
                    .entry(reference, reference.to_string(), raw, None)
                    .await?;
                Ok(Found::Manifest(Box::new(entry)))
            }
            Document::Index(index) => {
                let mut entries = Vec::new();
                for item in index.manifests {
                    let digest = item.digest.to_string();
                    let one = reference
                        .with_digest(&digest)
                        .map_err(|error| CliError::new(error.to_string()))?;
                    let raw = self.get(&one).await?;
                    if !matches!(document(&raw)?, Document::Manifest(_)) {
                        return Err(CliError::new(format!("{one} is a manifest list")));
                    }
                    let name = match reference.tag() {
                        Some(tag) => format!("{}:{tag}@{digest}", reference.name()),
                        None => one.to_string(),
                    };
                    let platform = item.platform.unwrap_or_default();
                    entries.push(self.entry(&one, name, raw, Some(platform)).await?);
                }
                Ok(Found::List(entries))
            }
        }
    }

    /// Looks one manifest up.
    ///
    /// # Errors
    /// As [`Registry::find`], and a list.
    pub async fn manifest(&self, reference: &Reference) -> Result<Entry> {
        match self.find(reference).await? {
            Found::Manifest(entry) => Ok(*entry),
            Found::List(_) => Err(CliError::new(format!("{reference} is a manifest list"))),
        }
    }

    /// Puts a manifest, or a list, under a name; its digest.
    ///
    /// # Errors
    /// The registry refuses.
    pub async fn put(
        &self,
        reference: &Reference,
        bytes: Vec<u8>,
        media_type: &str,
    ) -> Result<Digest> {
        let raw = RawManifest {
            digest: digest_of(&bytes),
            bytes: bytes.into(),
            media_type: media_type.to_owned(),
        };
        let put = Box::pin(self.client.put_manifest(reference, &raw, self.auth.clone())).await;
        put.map_err(|error| CliError::new(format!("failed to put manifest {reference}: {error}")))?;
        Ok(raw.digest)
    }

    /// Brings a blob into another repository of the registry.
    ///
    /// # Errors
    /// The registry refuses.
    pub async fn bring(&self, from: &Reference, to: &Reference, blob: &Descriptor) -> Result<()> {
        let auth = CopyAuth {
            source: self.auth.clone(),
            target: self.auth.clone(),
        };
        let brought = Box::pin(self.client.copy_blob(from, to, blob, auth)).await;
        brought.map_err(|error| {
            CliError::new(format!(
                "failed to mount blob {}@{} to {to}: {error}",
                from.name(),
                blob.digest
            ))
        })
    }

    async fn get(&self, reference: &Reference) -> Result<RawManifest> {
        let got = Box::pin(self.client.get_manifest(reference, self.auth.clone())).await;
        got.map_err(|error| match error.class() {
            ErrorClass::NotFound => CliError::new(format!("no such manifest: {reference}")),
            _ => told(error),
        })
    }

    /// An entry of a manifest; without a platform, that of its configuration.
    async fn entry(
        &self,
        reference: &Reference,
        name: String,
        raw: RawManifest,
        platform: Option<Platform>,
    ) -> Result<Entry> {
        let mut descriptor = raw.descriptor();
        let platform = match platform {
            Some(platform) => platform,
            None => {
                let one = reference
                    .with_digest(&raw.digest.to_string())
                    .map_err(|error| CliError::new(error.to_string()))?;
                let inspected = Box::pin(self.client.inspect(&one, self.auth.clone())).await;
                let platforms = inspected.map_err(told)?.platforms;
                platforms.into_iter().next().unwrap_or_default()
            }
        };
        descriptor.platform = Some(platform);
        Entry::new(name, descriptor, &raw.bytes)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn told(error: Error) -> CliError {
    CliError::new(error.to_string())
}

fn document(raw: &RawManifest) -> Result<Document> {
    Document::parse(&raw.bytes, Some(&raw.media_type))
        .map_err(|error| CliError::new(error.to_string()))
}

/// The digest of a document.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}
