//! The user's `config.json`: what Docker's command line keeps there, as far as it is used.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::credentials::AuthEntry;
use crate::error::{ClientError, Result};

/// `~/.docker/config.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigFile {
    /// Name of the context in use; empty or `default` for none.
    #[serde(rename = "currentContext")]
    pub current_context: String,
    /// Key sequence that detaches from a container.
    #[serde(rename = "detachKeys")]
    pub detach_keys: String,
    /// Extra headers of every request.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    /// Default `--format` of `ps`.
    #[serde(rename = "psFormat")]
    pub ps_format: String,
    /// Default `--format` of `images`.
    #[serde(rename = "imagesFormat")]
    pub images_format: String,
    /// Default `--format` of `network ls`.
    #[serde(rename = "networksFormat")]
    pub networks_format: String,
    /// Default `--format` of `volume ls`.
    #[serde(rename = "volumesFormat")]
    pub volumes_format: String,
    /// Default `--format` of `stats`.
    #[serde(rename = "statsFormat")]
    pub stats_format: String,
    /// Proxy settings given to containers, by daemon host or `default`.
    pub proxies: BTreeMap<String, Proxies>,
    /// Credentials, by registry.
    #[serde(deserialize_with = "null_as_default")]
    pub auths: BTreeMap<String, AuthEntry>,
    /// Name of the helper that keeps credentials instead of [`ConfigFile::auths`].
    #[serde(rename = "credsStore")]
    pub creds_store: String,
    /// Names of the helpers of single registries.
    #[serde(rename = "credHelpers", deserialize_with = "null_as_default")]
    pub cred_helpers: BTreeMap<String, String>,
    /// Filters that every `prune` has besides its own.
    #[serde(rename = "pruneFilters", deserialize_with = "null_as_default")]
    pub prune_filters: Vec<String>,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Proxy environment for containers of one daemon.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Proxies {
    /// Becomes `HTTP_PROXY` and `http_proxy`.
    #[serde(rename = "httpProxy")]
    pub http: String,
    /// Becomes `HTTPS_PROXY` and `https_proxy`.
    #[serde(rename = "httpsProxy")]
    pub https: String,
    /// Becomes `NO_PROXY` and `no_proxy`.
    #[serde(rename = "noProxy")]
    pub no: String,
    /// Becomes `FTP_PROXY` and `ftp_proxy`.
    #[serde(rename = "ftpProxy")]
    pub ftp: String,
    /// Becomes `ALL_PROXY` and `all_proxy`.
    #[serde(rename = "allProxy")]
    pub all: String,
}

impl ConfigFile {
    /// Reads `config.json` of a configuration directory; a missing file is an empty one.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = crate::config_file::path(directory);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(ClientError::Configuration(format!(
                    "loading config file: {}: {error}",
                    path.display()
                )));
            }
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&text).map_err(|error| {
            ClientError::Configuration(format!("parsing config file ({}): {error}", path.display()))
        })
    }
}
