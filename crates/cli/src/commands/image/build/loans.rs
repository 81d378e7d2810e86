//! `--secret` and `--ssh`: what the daemon borrows from us while it builds.

use std::env;
use std::path::{Path, PathBuf};

use cais_client::client::Client;
use cais_session::lender::{self, Loans};
use cais_session::own_agent::{OwnAgent, is_socket};
use cais_session::{Agent, Secret};
use rustix::rand::GetRandomFlags;
use tokio::io::join;
use tokio::task::AbortHandle;

use crate::error::{CliError, Result};
use crate::flags::Parsed;

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
            let (id, secret) = Secret::parse(&value).map_err(CliError::new)?;
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
                let own = OwnAgent::with_keys(&paths)
                    .map_err(|error| CliError::new(format!("could not parse ssh: {error}")))?;
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

/// An id that nobody can guess.
fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| CliError::new(format!("no random number: {errno}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
