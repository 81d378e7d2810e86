//! Which place has the credentials of which registry, and keeping them there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use serde_json::{Map, Value, json};

use super::auth::{AuthConfig, AuthEntry};
use super::helper::{CredentialError, Helper, find};
use super::host_of;
use crate::config::ConfigFile;
use crate::config_file;

/// The credentials of a user.
#[derive(Clone, Debug)]
pub struct Keychain<'a> {
    /// The configuration as it was read.
    pub config: &'a ConfigFile,
    /// Where it was read from.
    pub directory: &'a Path,
    /// Directories with helpers, as `PATH` has them.
    pub search_path: &'a OsStr,
    /// `DOCKER_AUTH_CONFIG`: a `config.json` whose `auths` go before everything else; empty for none.
    pub preset: &'a str,
}

/// Where credentials were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A helper has them, or they were there already.
    Safe,
    /// The file has them, readable for who can read it.
    Plain(PathBuf),
}

impl Keychain<'_> {
    /// The credentials for a server; empty ones if there are none. When a helper fails, what the file has for this very
    /// server is all there is: nothing of another server is ever used.
    pub fn resolve(&self, server: &str) -> AuthConfig {
        self.get(server)
            .unwrap_or_else(|_| self.of_file(server).unwrap_or_default())
    }

    /// The credentials for a server; empty ones if there are none.
    ///
    /// # Errors
    /// A helper fails, or an entry of the file makes no sense.
    pub fn get(&self, server: &str) -> Result<AuthConfig, CredentialError> {
        if let Some(entry) = self.preset().get(server) {
            return self.decode(server, entry);
        }
        let Some(helper) = self.helper(server) else {
            return self.of_file(server);
        };
        let found = self.named(&helper).get(server)?;
        Ok(found.unwrap_or_default())
    }

    /// The credentials of all servers, as a build needs them; helpers that fail are left out and told.
    ///
    /// # Errors
    /// The helper for all servers fails, or an entry of the file makes no sense.
    pub fn all(&self) -> Result<BTreeMap<String, AuthConfig>, CredentialError> {
        let mut all = BTreeMap::new();
        match self.store_for_all() {
            None => {
                for (server, entry) in &self.config.auths {
                    all.insert(server.clone(), self.decode(server, entry)?);
                }
            }
            Some(name) => {
                let helper = self.named(&name);
                for server in helper.list()?.into_keys() {
                    let auth = helper.get(&server)?.unwrap_or_default();
                    all.insert(server, auth);
                }
            }
        }
        for server in self.config.cred_helpers.keys() {
            if let Ok(auth) = self.get(server) {
                all.insert(server.clone(), auth);
            }
        }
        for (server, entry) in self.preset() {
            let auth = self.decode(&server, &entry)?;
            all.insert(server, auth);
        }
        Ok(all)
    }

    /// The value of `X-Registry-Config`: the credentials of all servers as JSON in base64 for URLs, with padding.
    ///
    /// # Errors
    /// As [`Keychain::all`].
    pub fn header_of_all(&self) -> Result<String, CredentialError> {
        let all = serde_json::to_string(&self.all()?).unwrap_or_default();
        Ok(BASE64_URL_SAFE.encode(all))
    }

    /// Keeps credentials for their server.
    ///
    /// # Errors
    /// The helper or the file refuses.
    pub fn store(&self, auth: &AuthConfig) -> Result<Stored, CredentialError> {
        let server = auth.serveraddress.as_str();
        let Some(name) = self.helper(server) else {
            let entry = entry_of(auth);
            if self.known(server).as_ref() == Some(&entry) {
                return Ok(Stored::Safe);
            }
            self.write(server, Some(entry))?;
            return Ok(if auth.password.is_empty() {
                Stored::Safe
            } else {
                Stored::Plain(config_file::path(self.directory))
            });
        };
        self.named(&name).store(auth)?;
        // The file remembers that there is something for this server, as Docker's does.
        let bare = entry_of(&AuthConfig {
            registrytoken: auth.registrytoken.clone(),
            ..AuthConfig::default()
        });
        if self.known(server).as_ref() != Some(&bare) {
            self.write(server, Some(bare))?;
        }
        Ok(Stored::Safe)
    }

    /// Forgets the credentials for a server.
    ///
    /// # Errors
    /// The helper or the file refuses.
    pub fn erase(&self, server: &str) -> Result<(), CredentialError> {
        if let Some(name) = self.helper(server) {
            self.named(&name).erase(server)?;
        }
        if self.config.auths.contains_key(server) {
            self.write(server, None)?;
        }
        Ok(())
    }

    /// Whether `DOCKER_AUTH_CONFIG` has credentials, which no login and no logout changes.
    pub fn has_preset(&self) -> bool {
        !self.preset().is_empty()
    }

    fn named<'n>(&'n self, name: &'n str) -> Helper<'n> {
        Helper {
            name,
            search_path: self.search_path,
        }
    }

    /// Name of the helper for a server, if one is in charge.
    fn helper(&self, server: &str) -> Option<Cow<'_, str>> {
        match self.config.cred_helpers.get(server) {
            Some(name) if !server.is_empty() => {
                Some(name.as_str().into()).filter(|name: &Cow<str>| !name.is_empty())
            }
            _ => self.store_for_all(),
        }
    }

    /// `credsStore`, or what this machine has when the configuration has no credentials at all.
    fn store_for_all(&self) -> Option<Cow<'_, str>> {
        let config = self.config;
        if !config.creds_store.is_empty() {
            return Some(config.creds_store.as_str().into());
        }
        if !config.auths.is_empty() || !config.cred_helpers.is_empty() {
            return None;
        }
        let name = if find("pass", self.search_path).is_some() {
            "pass"
        } else {
            "secretservice"
        };
        find(&format!("docker-credential-{name}"), self.search_path).map(|_| name.into())
    }

    fn preset(&self) -> BTreeMap<String, AuthEntry> {
        if self.preset.is_empty() {
            return BTreeMap::new();
        }
        serde_json::from_str::<ConfigFile>(self.preset)
            .map(|config| config.auths)
            .unwrap_or_default()
    }

    fn of_file(&self, server: &str) -> Result<AuthConfig, CredentialError> {
        let auths = &self.config.auths;
        // Old files have URLs as keys.
        let found = auths
            .get_key_value(server)
            .or_else(|| auths.iter().find(|(key, _)| host_of(key) == server));
        match found {
            Some((key, entry)) => self.decode(key, entry),
            None => Ok(AuthConfig::default()),
        }
    }

    fn decode(&self, server: &str, entry: &AuthEntry) -> Result<AuthConfig, CredentialError> {
        entry
            .credentials(server)
            .map_err(|cause| CredentialError::Entry {
                path: config_file::path(self.directory).display().to_string(),
                cause,
            })
    }

    /// The entry a file has for a server, as it would be written.
    fn known(&self, server: &str) -> Option<Map<String, Value>> {
        let entry = self.config.auths.get(server)?;
        Some(entry_of(&entry.credentials(server).ok()?))
    }

    fn write(
        &self,
        server: &str,
        entry: Option<Map<String, Value>>,
    ) -> Result<(), CredentialError> {
        let store = match &self.config.creds_store {
            name if name.is_empty() => self.store_for_all(),
            _ => None,
        };
        config_file::edit(self.directory, |fields| {
            if !fields.get("auths").is_some_and(Value::is_object) {
                fields.shift_insert(0, "auths".into(), json!({}));
            }
            let Some(auths) = fields["auths"].as_object_mut() else {
                return;
            };
            match entry {
                Some(entry) => {
                    auths.insert(server.to_owned(), entry.into());
                    auths.sort_keys();
                }
                None => drop(auths.shift_remove(server)),
            }
            if let Some(name) = store {
                fields.insert("credsStore".into(), name.into());
            }
        })?;
        Ok(())
    }
}

/// The entry of a file.
fn entry_of(auth: &AuthConfig) -> Map<String, Value> {
    let fields = [
        ("auth", auth.encoded()),
        ("identitytoken", auth.identitytoken.clone()),
        ("registrytoken", auth.registrytoken.clone()),
    ];
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_gets_the_credentials_of_all_servers() {
        // "me:secret"
        let text = r#"{"auths":{"127.0.0.1:5000":{"auth":"bWU6c2VjcmV0"}}}"#;
        let config: ConfigFile = serde_json::from_str(text).unwrap();
        let keychain = Keychain {
            config: &config,
            directory: Path::new("/"),
            search_path: OsStr::new(""),
            preset: "",
        };
        let header = BASE64_URL_SAFE.decode(keychain.header_of_all().unwrap());
        let all: Value = serde_json::from_slice(&header.unwrap()).unwrap();
        assert_eq!(all["127.0.0.1:5000"]["username"], "me");
        assert_eq!(all["127.0.0.1:5000"]["password"], "secret");
    }
}
