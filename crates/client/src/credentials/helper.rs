//! Credential helpers: programs `docker-credential-NAME` that keep secrets, spoken to over standard input and output
//! (docker-credential-helpers, "Development": get, store, erase, list).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use super::auth::AuthConfig;
use crate::error::ClientError;

const PREFIX: &str = "docker-credential-";

/// What a helper prints when it has nothing for a server.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name of a secret that is an identity token.
const TOKEN: &str = "<token>";

/// Why credentials could not be had or kept; `Display` is what `docker` prints.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The helper failed.
    #[error("error {doing} credentials - err: {cause}, out: `{output}`")]
    Helper {
        /// `getting`, `storing`, `erasing`, `listing`.
        doing: &'static str,
        /// How it ended, or why it did not start.
        cause: String,
        /// What it printed.
        output: String,
    },
    /// The helper's answer makes no sense.
    #[error("{0}")]
    Answer(String),
    /// An entry of the file makes no sense.
    #[error("parsing config file ({path}): {cause}")]
    Entry {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The file cannot be changed.
    #[error(transparent)]
    File(#[from] ClientError),
}

/// One helper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper<'a> {
    /// The name behind the prefix.
    pub name: &'a str,
    /// Directories to look in, as `PATH` has them.
    pub search_path: &'a OsStr,
}

/// What goes to and comes from a helper.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Secret {
    #[serde(rename = "ServerURL")]
    server: String,
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Helper<'_> {
    /// The credentials for a server, `None` when the helper has none.
    pub(super) fn get(self, server: &str) -> Result<Option<AuthConfig>, CredentialError> {
        let output = match self.call("getting", "get", server.as_bytes()) {
            Err(CredentialError::Helper { output, .. }) if output == NOT_FOUND => return Ok(None),
            result => result?,
        };
        let found: Secret = serde_json::from_slice(&output)
            .map_err(|error| CredentialError::Answer(error.to_string()))?;
        let mut auth = AuthConfig {
            serveraddress: server.to_owned(),
            ..AuthConfig::default()
        };
        if found.username == TOKEN {
            auth.identitytoken = found.secret;
        } else {
            auth.username = found.username;
            auth.password = found.secret;
        }
        Ok(Some(auth))
    }

    /// Keeps credentials.
    pub(super) fn store(self, auth: &AuthConfig) -> Result<(), CredentialError> {
        let (username, secret) = if auth.identitytoken.is_empty() {
            (auth.username.clone(), auth.password.clone())
        } else {
            (TOKEN.to_owned(), auth.identitytoken.clone())
        };
        let secret = Secret {
            server: auth.serveraddress.clone(),
            username,
            secret,
        };
        let mut text = serde_json::to_vec(&secret)
            .map_err(|error| CredentialError::Answer(error.to_string()))?;
        text.push(b'\n');
        self.call("storing", "store", &text).map(drop)
    }

    /// Forgets the credentials for a server.
    pub(super) fn erase(self, server: &str) -> Result<(), CredentialError> {
        self.call("erasing", "erase", server.as_bytes()).map(drop)
    }

    /// Servers it has credentials for, and their users.
    pub(super) fn list(self) -> Result<BTreeMap<String, String>, CredentialError> {
        let output = self.call("listing", "list", b"unused")?;
        serde_json::from_slice(&output).map_err(|error| CredentialError::Answer(error.to_string()))
    }

    fn call(
        self,
        doing: &'static str,
        action: &str,
        input: &[u8],
    ) -> Result<Vec<u8>, CredentialError> {
        let failed = |cause: String, output: &[u8]| CredentialError::Helper {
            doing,
            cause,
            output: String::from_utf8_lossy(output).trim().to_owned(),
        };
        let program = self.program().ok_or_else(|| {
            let cause = format!(
                "exec: \"{PREFIX}{}\": executable file not found in $PATH",
                self.name
            );
            failed(cause, b"")
        })?;
        let unstarted = |error: std::io::Error| failed(error.to_string(), b"");
        let mut child = Command::new(program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(unstarted)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input says by its exit code what it thinks of it.
            drop(stdin.write_all(input));
        }
        let output = child.wait_with_output().map_err(unstarted)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failed(ended(output.status), &output.stdout))
    }

    /// The program, from absolute directories only: nothing in the current directory is ever run.
    fn program(self) -> Option<PathBuf> {
        if self.name.contains('/') {
            return None;
        }
        let file = format!("{PREFIX}{}", self.name);
        find(&file, self.search_path)
    }
}

/// An executable file in an absolute directory of a search path.
pub(super) fn find(file: &str, search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(file))
        .find(|path| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => "unknown end".into(),
    }
}
