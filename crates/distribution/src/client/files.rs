//! Files behind plain URLs, as ADD of a Dockerfile names them. Nothing of registries is sent along.

use std::time::Duration;

use bytes::Bytes;
use cais_types::{Error, Result};
use http::header::{CONTENT_DISPOSITION, LAST_MODIFIED};
use reqwest::{Response, Url};

use super::address::{Guard, is_loopback_name};
use super::body;
use super::config::ClientConfig;
use super::endpoint::{Connections, REDIRECTS_MAX, redirect};
use super::error::RegistryError;
use super::tls::TlsFiles;
use super::transfers::blocking;

/// A file that is about to be read.
pub struct RemoteFile {
    response: Response,
    read_timeout: Duration,
}

impl RemoteFile {
    /// Asks for a file and follows redirects. One that leaves the host may not lead to this machine, nor to where clouds keep
    /// the credentials of a machine.
    ///
    /// # Errors
    /// A URL that is none or leads where it must not; a server that can't be reached or has no such file.
    pub async fn open(config: &ClientConfig, url: &str) -> Result<Self> {
        let mut at = Url::parse(url)
            .map_err(|error| Error::invalid(format!("invalid URL {url:?}: {error}")))?;
        let first = at.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = Self::once(config, &first, &at).await?;
            if let Some(location) = redirect(&response) {
                at = at.join(&location).map_err(|error| {
                    Error::invalid(format!("invalid URL {location:?}: {error}"))
                })?;
                continue;
            }
            let status = response.status();
            if !status.is_success() {
                return Err(Error::invalid(format!(
                    "failed to GET {url} with status {status}"
                )));
            }
            return Ok(Self {
                response,
                read_timeout: config.read_timeout,
            });
        }
        Err(Error::invalid(format!(
            "Get {url:?}: stopped after {REDIRECTS_MAX} redirects"
        )))
    }

    async fn once(config: &ClientConfig, first: &Url, at: &Url) -> Result<Response> {
        let host = at.host_str().unwrap_or_default();
        let first = first.host_str().unwrap_or_default();
        let guard = Guard {
            loopback: host == first || is_loopback_name(first),
        };
        if !matches!(at.scheme(), "http" | "https") || !guard.allows_host(host) {
            return Err(Error::invalid(format!(
                "Get {:?}: address is not allowed",
                at.as_str()
            )));
        }
        let settings = config.clone();
        let client = blocking(move || {
            let connections = Connections {
                guard,
                verify: true,
                identify: false,
            };
            connections.client(&settings, &TlsFiles::default())
        });
        let client = client
            .await
            .and_then(|client| client)
            .map_err(RegistryError::plain)?;
        let limit = config.connect_timeout + config.read_timeout;
        let answer = tokio::time::timeout(limit, client.get(at.clone()).send()).await;
        let failed = |reason: String| Error::invalid(format!("Get {:?}: {reason}", at.as_str()));
        answer
            .map_err(|_| failed("timed out".to_owned()))?
            .map_err(|error| {
                let authority = format!("{host}:{}", at.port_or_known_default().unwrap_or(0));
                failed(super::error::transport_reason(&error, &authority).0)
            })
    }

    /// Its bytes, when the server says how many.
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// When it was changed, as the server says it.
    pub fn last_modified(&self) -> Option<&str> {
        self.response.headers().get(LAST_MODIFIED)?.to_str().ok()
    }

    /// The name that the server gives it, without any directory.
    pub fn name(&self) -> Option<String> {
        let header = self.response.headers().get(CONTENT_DISPOSITION)?;
        let mut fields = header.to_str().ok()?.split(';').map(str::trim);
        let name = fields.find_map(|field| field.strip_prefix("filename="))?;
        let name = name.trim_matches('"').rsplit('/').next().unwrap_or("");
        Some(name.to_owned()).filter(|name| !matches!(name.as_str(), "" | "." | ".."))
    }

    /// The next part; none at the end.
    ///
    /// # Errors
    /// A connection that breaks off or is silent for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let part = body::next(&mut self.response, self.read_timeout).await;
        part.map_err(RegistryError::plain)
    }
}
