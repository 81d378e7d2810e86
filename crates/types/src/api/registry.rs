//! Registries: credentials, `/auth`, `/images/search` and `/distribution`.

use serde::{Deserialize, Serialize};

use super::decode::is_zero;
use crate::oci::{Descriptor, Platform};

/// What a user proves to be to a registry: the body of `POST /auth`, and base64url-encoded the header `X-Registry-Auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub username: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub password: String,
    /// `username:password`, base64; used when there is no user name.
    #[serde(skip_serializing_if = "is_zero")]
    pub auth: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub email: String,
    #[serde(rename = "serveraddress", skip_serializing_if = "is_zero")]
    pub server_address: String,
    /// A refresh token, in place of a password.
    #[serde(rename = "identitytoken", skip_serializing_if = "is_zero")]
    pub identity_token: String,
    /// A bearer token that is sent to the registry as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "is_zero")]
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            username,
            server_address,
            ..
        } = self;
        write!(f, "AuthConfig({username} at {server_address})")
    }
}

/// The answer of `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}

/// `GET /distribution/{name}/json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    #[serde(default)]
    pub platforms: Vec<Platform>,
}

/// One answer of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    /// Always false; the index tells no more.
    pub is_automated: bool,
    pub description: String,
}
