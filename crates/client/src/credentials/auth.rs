//! What is known of one registry's user: as the file has it, and as the daemon gets it.

use std::fmt;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde::{Deserialize, Serialize};

/// One entry of `auths`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthEntry {
    /// `user:password` in base64.
    pub auth: String,
    /// The user, when `auth` is empty.
    pub username: String,
    /// The password, when `auth` is empty.
    pub password: String,
    /// A token that stands for the user.
    pub identitytoken: String,
    /// A token that is sent as it is.
    pub registrytoken: String,
}

/// Credentials as the daemon takes them in `X-Registry-Auth` and `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// The registry they are for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// Stands for user and password; the registry's token service takes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// Sent to the registry as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl AuthEntry {
    /// The entry as credentials of a server.
    ///
    /// # Errors
    /// `auth` is no base64, or names no user.
    pub fn credentials(&self, server: &str) -> Result<AuthConfig, String> {
        let (username, password) = if self.auth.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            decode(&self.auth)?
        };
        Ok(AuthConfig {
            username,
            password,
            serveraddress: server.to_owned(),
            identitytoken: self.identitytoken.clone(),
            registrytoken: self.registrytoken.clone(),
        })
    }
}

fn decode(auth: &str) -> Result<(String, String), String> {
    let bytes = BASE64_STANDARD
        .decode(auth.replace(['\r', '\n'], ""))
        .map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol(at, _) => {
                format!("illegal base64 data at input byte {at}")
            }
            _ => format!("illegal base64 data at input byte {}", auth.len()),
        })?;
    let text = String::from_utf8_lossy(&bytes);
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
        }
        _ => Err("invalid auth configuration file".into()),
    }
}

impl AuthConfig {
    /// `auth` of a file's entry; empty without user and password.
    pub fn encoded(&self) -> String {
        if self.username.is_empty() && self.password.is_empty() {
            return String::new();
        }
        BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password))
    }

    /// The value of `X-Registry-Auth`: JSON in base64 for URLs, with padding.
    pub fn header(&self) -> String {
        BASE64_URL_SAFE.encode(serde_json::to_string(self).unwrap_or_default())
    }
}

// Secrets stay out of messages and logs.
impl fmt::Debug for AuthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthEntry").finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded_and_encoded() {
        let entry = |auth: &str| AuthEntry {
            auth: auth.into(),
            ..AuthEntry::default()
        };
        let auth = entry("dTpwOnE=").credentials("a.example").unwrap();
        assert_eq!(
            (auth.username.as_str(), auth.password.as_str()),
            ("u", "p:q")
        );
        assert_eq!(auth.encoded(), "dTpwOnE=");
        assert_eq!(
            entry("!!!").credentials("x").unwrap_err(),
            "illegal base64 data at input byte 0"
        );
        for bad in ["Og==", "dQ=="] {
            let error = entry(bad).credentials("x").unwrap_err();
            assert_eq!(error, "invalid auth configuration file");
        }
    }

    #[test]
    fn the_header_is_dockers_to_the_byte() {
        let auth = entry_of("u", "p", "a.example");
        assert_eq!(
            auth.header(),
            "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAiLCJzZXJ2ZXJhZGRyZXNzIjoiYS5leGFtcGxlIn0="
        );
        assert_eq!(AuthConfig::default().header(), "e30=");
    }

    fn entry_of(user: &str, password: &str, server: &str) -> AuthConfig {
        AuthConfig {
            username: user.into(),
            password: password.into(),
            serveraddress: server.into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = format!("{:?}", entry_of("u", "secret", "a"));
        assert!(!text.contains("secret"), "{text}");
    }
}
