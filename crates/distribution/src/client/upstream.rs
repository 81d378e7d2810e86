//! One registry as a pull-through cache asks it: with the credentials of an operator, under the rules of [`super::auth`] for
//! where those may go.

use std::sync::Arc;

use bytes::Bytes;
use cais_types::Digest;
use http::header::{ACCEPT, RANGE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::Response;

use super::address::Insecure;
use super::body;
use super::config::{ClientConfig, Credentials};
use super::endpoint::Endpoint;
pub use super::error::RegistryError;
use super::hosts;
use super::repository::{ACCEPTED, Repository};
use super::request::RawManifest;
use super::session::{Call, Session};

/// A registry.
pub struct Upstream {
    session: Session,
}

/// A blob that is coming.
pub struct UpstreamBlob {
    pub size: u64,
    response: Response,
    timeout: std::time::Duration,
}

impl Upstream {
    /// A registry by its URL; reaches nothing yet.
    ///
    /// # Errors
    /// A URL that cannot be one of a registry.
    pub async fn new(
        url: &str,
        credentials: Option<&Credentials>,
        config: &ClientConfig,
    ) -> Result<Self, RegistryError> {
        let insecure = Insecure::new(&config.insecure_registries)?;
        let server = hosts::upstream(config, url)?;
        let endpoint = Endpoint::new(server, config, &insecure).await?;
        Ok(Self {
            session: Session::new(Arc::new(endpoint), credentials, config.attempts),
        })
    }

    fn repository(&self, path: &str) -> Repository {
        Repository {
            session: self.session.clone(),
            path: path.to_owned(),
        }
    }

    fn call(method: Method, path: &str, rest: &str) -> Call {
        let scopes = vec![format!("repository:{path}:pull")];
        Call::new(method, format!("{path}/{rest}"), scopes)
    }

    /// A manifest by tag or digest, checked.
    ///
    /// # Errors
    /// The network; what the registry refuses.
    pub async fn manifest(&self, path: &str, what: &str) -> Result<RawManifest, RegistryError> {
        self.repository(path).manifest(what).await
    }

    /// The digest of a tag, without its manifest; none when the registry does not tell it.
    ///
    /// # Errors
    /// As [`Upstream::manifest`].
    pub async fn digest(&self, path: &str, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let mut call = Self::call(Method::HEAD, path, &format!("manifests/{tag}"));
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let response = self.session.send(&call).await?;
        let digest = response.headers().get("docker-content-digest");
        Ok(digest.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// All tags.
    ///
    /// # Errors
    /// As [`Upstream::manifest`].
    pub async fn tags(&self, path: &str) -> Result<Vec<String>, RegistryError> {
        self.repository(path).tags().await
    }

    /// The size of a blob.
    ///
    /// # Errors
    /// As [`Upstream::manifest`].
    pub async fn blob_size(&self, path: &str, digest: &Digest) -> Result<u64, RegistryError> {
        let call = Self::call(Method::HEAD, path, &format!("blobs/{digest}"));
        let response = self.session.send(&call).await?;
        let size = response.headers().get(http::header::CONTENT_LENGTH);
        let size = size.and_then(|value| value.to_str().ok()?.parse().ok());
        size.ok_or_else(|| RegistryError::Unusable("the upstream does not tell a size".into()))
    }

    /// Starts to fetch a blob from a byte on.
    ///
    /// # Errors
    /// As [`Upstream::manifest`]; a registry that tells no size, or cannot begin there.
    pub async fn blob(
        &self,
        path: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<UpstreamBlob, RegistryError> {
        let mut call = Self::call(Method::GET, path, &format!("blobs/{digest}"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call.headers.extend(range.ok().map(|value| (RANGE, value)));
        }
        let response = self.session.send(&call).await?;
        let length = response.content_length();
        let Some(length) = length else {
            return Err(RegistryError::Unusable(
                "the upstream does not tell a size".into(),
            ));
        };
        if offset > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(RegistryError::Unusable(
                "the upstream cannot go on in the middle".into(),
            ));
        }
        Ok(UpstreamBlob {
            size: offset + length,
            response,
            timeout: self.session.read_timeout(),
        })
    }
}

impl UpstreamBlob {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The network.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        body::next(&mut self.response, self.timeout).await
    }
}
