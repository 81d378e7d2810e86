//! Credentials for registries: `auths` of `config.json`, and the helper programs it names.

mod auth;
mod helper;
mod keychain;

pub use auth::{AuthConfig, AuthEntry};
pub use helper::CredentialError;
pub use keychain::{Keychain, Stored};

/// The key of Docker Hub's credentials.
pub const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The key of the credentials for images of a registry: its host, but for Docker Hub.
pub fn registry_key(domain: &str) -> &str {
    match domain {
        "docker.io" | "index.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// The host and port in a registry's address, which may be a URL.
pub fn host_of(address: &str) -> &str {
    let rest = match address.split_once("://") {
        Some((_, rest)) => rest.rsplit_once('@').map_or(rest, |(_, host)| host),
        None => address,
    };
    rest.split('/').next().unwrap_or_default()
}
