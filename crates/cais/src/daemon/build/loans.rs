//! What the client of a build lends a step while it runs: secrets, in a file system of memory, and sockets that lead to its
//! agents for SSH keys. Nothing of it is stored.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use cais_build::ports::{Loan, RunStep, StepMount};
use cais_session::borrower::{Session, Sessions};
use cais_types::api::Mount;
use cais_types::{Error, Result};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::executor::bind;
use super::trees::{Attached, Trees};

/// The variable with the socket of the first agent.
const SOCKET_VARIABLE: &str = "SSH_AUTH_SOCK";

/// What a step has from the client until this is dropped.
#[derive(Default)]
pub struct Lent {
    pub mounts: Vec<Mount>,
    /// Variables that no record may show.
    pub env: Vec<String>,
    agents: JoinSet<()>,
    places: Vec<Attached>,
}

/// A mount to be filled.
struct Wanted {
    id: String,
    target: Option<String>,
    required: bool,
    mode: u32,
    owner: (u32, u32),
}

/// Borrows from clients.
pub struct Lender<'a> {
    pub sessions: &'a Sessions,
    pub handle: &'a Handle,
    pub trees: &'a Trees,
}

impl Lender<'_> {
    /// Takes the mounts of a step that the client has to fill out of it, and fills them.
    ///
    /// # Errors
    /// Invalid: the client does not have what a step cannot do without.
    pub fn lend(&self, step: &mut RunStep) -> Result<Lent> {
        let is_loan = |mount: &mut StepMount| matches!(mount, StepMount::Loan { .. });
        let mut lent = Lent::default();
        let wanted: Vec<StepMount> = step.mounts.extract_if(.., is_loan).collect();
        if wanted.is_empty() {
            return Ok(lent);
        }
        let session = match step.session.as_str() {
            "" => None,
            id => Some(self.handle.block_on(self.sessions.find(id))?),
        };
        for mount in wanted {
            let StepMount::Loan {
                what,
                id,
                target,
                required,
                mode,
                owner,
            } = mount
            else {
                continue;
            };
            let wanted = Wanted {
                id,
                target,
                required,
                mode,
                owner,
            };
            match what {
                Loan::Secret { env } => self.secret(session.as_ref(), &wanted, env, &mut lent)?,
                Loan::Agent => self.agent(session.as_ref(), &wanted, &mut lent)?,
            }
        }
        Ok(lent)
    }

    fn secret(
        &self,
        session: Option<&Session>,
        wanted: &Wanted,
        env: Option<String>,
        lent: &mut Lent,
    ) -> Result<()> {
        let id = &wanted.id;
        let found = session.map(|session| self.handle.block_on(session.secret(id)));
        let Some(bytes) = found.transpose()?.flatten() else {
            return wanted.missing(format!("secret {id}: not found"));
        };
        if let Some(target) = &wanted.target {
            let place = self.trees.memory()?;
            let path = place.inside("secret");
            write(&path, &bytes, wanted).map_err(|error| failed(id, &error))?;
            lent.mounts.push(bind(&path, target.clone(), true));
            lent.places.push(place);
        }
        if let Some(name) = env {
            let value = String::from_utf8(bytes);
            let value = value.ok().filter(|value| !value.contains('\0'));
            let value = value.ok_or_else(|| {
                Error::invalid(format!("secret {id} is no text, as a variable has to be"))
            })?;
            lent.env.push(format!("{name}={value}"));
        }
        Ok(())
    }

    fn agent(&self, session: Option<&Session>, wanted: &Wanted, lent: &mut Lent) -> Result<()> {
        let id = &wanted.id;
        let found = session.map(|session| self.handle.block_on(session.has_agent(id)));
        let session = session.filter(|_| matches!(found, Some(Ok(true))));
        let (Some(session), Some(target)) = (session, &wanted.target) else {
            found.transpose()?;
            return wanted.missing(format!("unset ssh forward key {id}"));
        };
        let place = self.trees.memory()?;
        let path = place.inside("agent");
        let listener = listen(self.handle, &path, wanted).map_err(|error| failed(id, &error))?;
        let serve = forward(listener, session.clone(), id.clone());
        lent.agents.spawn_on(serve, self.handle);
        lent.mounts.push(bind(&path, target.clone(), true));
        lent.places.push(place);
        if !lent
            .env
            .iter()
            .any(|have| have.starts_with(SOCKET_VARIABLE))
        {
            lent.env.push(format!("{SOCKET_VARIABLE}={target}"));
        }
        Ok(())
    }
}

impl Wanted {
    fn missing(&self, text: String) -> Result<()> {
        match self.required {
            true => Err(Error::invalid(text)),
            false => Ok(()),
        }
    }
}

fn write(path: &Path, bytes: &[u8], wanted: &Wanted) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    own(path, wanted)
}

/// Owner first: a change of it takes bits of the mode away.
fn own(path: &Path, wanted: &Wanted) -> std::io::Result<()> {
    let (uid, gid) = wanted.owner;
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, Permissions::from_mode(wanted.mode))
}

/// A socket whose path may be longer than the kernel takes for one.
fn listen(handle: &Handle, path: &Path, wanted: &Wanted) -> std::io::Result<UnixListener> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let directory = fs::File::open(directory)?;
    let near = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let _runtime = handle.enter();
    let listener = UnixListener::bind(Path::new(&near).join(name))?;
    own(path, wanted)?;
    Ok(listener)
}

/// Leads everyone who connects to the client's agent.
async fn forward(listener: UnixListener, session: Session, id: String) {
    let mut users = JoinSet::new();
    while let Ok((user, _)) = listener.accept().await {
        let (session, id) = (session.clone(), id.clone());
        users.spawn(async move {
            if let Err(error) = session.forward(&id, user).await {
                tracing::debug!(%error, id, "the agent of a build");
            }
        });
        // Those that ended need not be kept.
        while users.try_join_next().is_some() {}
    }
}

fn failed(id: &str, error: &std::io::Error) -> Error {
    Error::internal(format!("build mount {id}: {error}"))
}
