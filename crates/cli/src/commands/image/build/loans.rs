//! `--secret` and `--ssh`: what the daemon borrows from us while it builds.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cais_client::client::Client;
use cais_session::lender::{self, Loans};
use cais_session::{Agent, Secret};
use rustix::rand::GetRandomFlags;
use tempfile::TempDir;
use tokio::io::join;
use tokio::task::AbortHandle;

use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// How long an agent of our own may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is lent, with the agents that were started for it.
pub struct Lending {
    loans: Loans,
    own: Vec<OwnAgent>,
}

/// A session that goes on until this is dropped.
pub struct Session {
    pub id: String,
    task: AbortHandle,
    _agents: Vec<OwnAgent>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An agent that was started for the keys of files. It ends with a command of its own, which ends with its input: ours, so
/// that it outlives nobody.
struct OwnAgent {
    command: Child,
    directory: TempDir,
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        drop(self.command.stdin.take());
        // A process of ours that ended has to be waited for; there is nothing to learn from it.
        let _ = self.command.wait();
    }
}

impl Lending {
    /// Reads the flags.
    ///
    /// # Errors
    /// buildx's sentences about values that it does not take, and keys that cannot be read.
    pub fn parse(args: &Parsed) -> Result<Self> {
        let mut lending = Self {
            loans: Loans::default(),
            own: Vec::new(),
        };
        for value in args.list("secret") {
            let (id, secret) = secret(&value)?;
            lending.loans.secrets.insert(id, secret);
        }
        for value in args.list("ssh") {
            lending.agent(&value)?;
        }
        Ok(lending)
    }

    /// `default`, `ID=SOCKET` or `ID=KEY[,KEY]`.
    fn agent(&mut self, value: &str) -> Result<()> {
        let (id, paths) = value.split_once('=').unwrap_or((value, ""));
        let paths: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
        let socket = match paths[..] {
            [] => PathBuf::from(env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| {
                CliError::new(format!(
                    "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set (--ssh {value})"
                ))
            })?),
            [path] if is_socket(Path::new(path)) => PathBuf::from(path),
            _ => {
                let own = OwnAgent::with_keys(&paths)?;
                let socket = own.socket();
                self.own.push(own);
                socket
            }
        };
        if !is_socket(&socket) {
            return Err(CliError::new(format!(
                "could not parse ssh: [{value}]: {} is no socket",
                socket.display()
            )));
        }
        let id = if id.is_empty() { "default" } else { id };
        self.loans.agents.insert(id.to_owned(), Agent(socket));
        Ok(())
    }

    /// Begins a session, if there is anything to lend.
    ///
    /// # Errors
    /// The daemon takes none.
    pub async fn begin(self, client: &Client) -> Result<Option<Session>> {
        if self.loans.is_empty() {
            return Ok(None);
        }
        let id = new_id()?;
        let connection = client.build_session(&id, &Loans::methods()).await?;
        let serve = lender::serve(join(connection.reader, connection.writer), self.loans);
        let task = tokio::spawn(serve).abort_handle();
        Ok(Some(Session {
            id,
            task,
            _agents: self.own,
        }))
    }
}

impl OwnAgent {
    /// Starts OpenSSH's agent with keys that need no passphrase.
    fn with_keys(keys: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cais-agent-").tempdir()?;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            CliError::new(format!("could not parse ssh: {what}: {error}"))
        };
        let command = Command::new("ssh-agent")
            .arg("-a")
            .arg(directory.path().join("socket"))
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failed("ssh-agent", &error))?;
        let own = Self { command, directory };
        let begun = std::time::Instant::now();
        while !is_socket(&own.socket()) {
            if begun.elapsed() > PATIENCE {
                return Err(failed("ssh-agent", &"it does not begin"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for key in keys {
            let added = Command::new("ssh-add")
                .arg("--")
                .arg(key)
                .env("SSH_AUTH_SOCK", own.socket())
                .env("SSH_ASKPASS_REQUIRE", "never")
                .stdin(Stdio::null())
                .output()
                .map_err(|error| failed("ssh-add", &error))?;
            if !added.status.success() {
                let text = String::from_utf8_lossy(&added.stderr);
                return Err(failed(key, &text.trim()));
            }
        }
        Ok(own)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

/// An id that nobody can guess.
fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| CliError::new(format!("no random number: {errno}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// `id=ID[,src=PATH|,env=VARIABLE][,type=file|env]`.
fn secret(value: &str) -> Result<(String, Secret)> {
    let bad = |why: String| CliError::new(format!("could not parse secrets: [{value}]: {why}"));
    let mut fields = BTreeMap::new();
    for field in value.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| bad(format!("invalid field '{field}' must be a key=value pair")))?;
        let key = match key.to_lowercase().as_str() {
            "source" => "src".to_owned(),
            "id" | "type" | "src" | "env" => key.to_lowercase(),
            _ => return Err(bad(format!("unexpected key '{key}' in '{field}'"))),
        };
        fields.insert(key, value.to_owned());
    }
    let kind = fields.remove("type");
    if let Some(kind) = kind
        .as_deref()
        .filter(|kind| !matches!(*kind, "file" | "env"))
    {
        return Err(bad(format!("unsupported secret type {kind:?}")));
    }
    let source = fields.remove("src").filter(|text| !text.is_empty());
    let variable = fields.remove("env").filter(|text| !text.is_empty());
    let id = fields.remove("id").filter(|text| !text.is_empty());
    let id = id.ok_or_else(|| bad("secret missing id".to_owned()))?;
    let secret = match (kind.as_deref(), source, variable) {
        (Some("env"), source, variable) => {
            Secret::Variable(variable.or(source).unwrap_or_else(|| id.clone()))
        }
        (_, None, Some(variable)) => Secret::Variable(variable),
        // A variable of this name comes before a file of this name.
        (None, None, None) if env::var_os(&id).is_some() => Secret::Variable(id.clone()),
        (_, source, _) => Secret::File(PathBuf::from(source.unwrap_or_else(|| id.clone()))),
    };
    if let Secret::File(path) = &secret {
        let metadata = path
            .metadata()
            .map_err(|error| bad(format!("failed to stat {}: {error}", path.display())))?;
        if metadata.len() > 500 * 1024 {
            let text = format!("secret {id} too big. max size 500KB");
            return Err(bad(text));
        }
    }
    Ok((id, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_or_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let from_file = Secret::File(file.path().to_owned());
        let from_variable = |name: &str| Secret::Variable(name.to_owned());
        for (value, expected) in [
            (format!("id=a,src={path}"), from_file.clone()),
            (format!("id=a,type=file,source={path}"), from_file),
            ("id=a,env=B".to_owned(), from_variable("B")),
            ("id=a,type=env".to_owned(), from_variable("a")),
            ("id=a,type=env,src=C".to_owned(), from_variable("C")),
            ("id=PATH".to_owned(), from_variable("PATH")),
        ] {
            let (id, secret) = secret(&value).unwrap();
            assert_eq!(id, value["id=".len()..].split(',').next().unwrap());
            assert_eq!(secret, expected, "{value}");
        }
        for (value, expected) in [
            ("id", "must be a key=value pair"),
            ("src=x", "secret missing id"),
            ("id=a,colour=red", "unexpected key 'colour' in 'colour=red'"),
            ("id=a,type=vault", "unsupported secret type \"vault\""),
            ("id=a,src=/nowhere/at/all", "failed to stat /nowhere/at/all"),
        ] {
            let error = secret(value).unwrap_err();
            assert!(error.message.contains(expected), "{value}: {error:?}");
        }
    }
}
