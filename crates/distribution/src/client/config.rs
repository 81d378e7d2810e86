//! What an operator says about registries.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Registries that may speak plain HTTP or show any certificate: `host[:port]`, an address range (`10.0.0.0/8`). Loopback
    /// always is (`127.0.0.0/8`, `::1`, `localhost`).
    pub insecure_registries: Vec<String>,
    /// URLs of mirrors of docker.io (`registry-mirrors` of daemon.json); asked first, in this order.
    pub mirrors: Vec<String>,
    /// Directories with one directory per registry (`host[:port]`, or `_default`): `*.crt` are roots, `*.cert` and `*.key` pairs
    /// are client certificates, `hosts.toml` says which hosts serve it (containerd's format). The first with the registry wins.
    pub certs_dirs: Vec<PathBuf>,
    pub proxies: Proxies,
    /// Layers fetched at the same time by all pulls.
    pub max_concurrent_downloads: usize,
    /// Layers sent at the same time by all pushes.
    pub max_concurrent_uploads: usize,
    /// How often a request is tried that fails without progress.
    pub attempts: u32,
    pub user_agent: String,
    /// Where the bytes of layers that did not arrive whole are kept; none keeps nothing.
    pub partial_dir: Option<PathBuf>,
    /// How long a connection, with TLS, may take.
    pub connect_timeout: Duration,
    /// How long an answer may let wait for its head, or for more of its body.
    pub read_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            certs_dirs: vec![
                "/etc/cais/certs.d".into(),
                "/etc/docker/certs.d".into(),
                "/etc/containerd/certs.d".into(),
            ],
            proxies: Proxies::default(),
            max_concurrent_downloads: 8,
            max_concurrent_uploads: 5,
            attempts: 5,
            user_agent: concat!("docker/28.5.2 cais/", env!("CARGO_PKG_VERSION")).to_owned(),
            partial_dir: None,
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// Proxies by the scheme of what is asked for, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them. Loopback is never asked
/// through a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts, domains with what is below them, addresses and ranges that are asked directly, comma-separated; `*` is all.
    pub no_proxy: Option<String>,
}

impl Proxies {
    /// The proxies named by variables, upper case first; `variable` looks one up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            variable(name)
                .or_else(|| variable(&name.to_ascii_lowercase()))
                .filter(|value| !value.is_empty())
        };
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            no_proxy: either("NO_PROXY"),
        }
    }
}

/// What a user proves to be to one registry (`X-Registry-Auth` of the API). Never sent to another.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// A refresh token of the registry's token server, instead of a password.
    pub identity_token: Option<String>,
    /// A token for the registry itself, sent as it is.
    pub registry_token: Option<String>,
}

impl Credentials {
    /// A name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            ..Self::default()
        }
    }

    /// Whether nothing is in it, as clients without a login send it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}
