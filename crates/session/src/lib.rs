//! BuildKit's session: what the client of a build lends the daemon while the build runs. The client opens
//! `POST /session`, which becomes an HTTP/2 connection in which the roles are changed: the daemon calls, the client serves
//! secrets (`moby.buildkit.secrets.v1`) and agents for SSH keys (`moby.sshforward.v1`). Nothing of it is stored.

mod agent;
pub mod borrower;
mod keys;
pub mod lender;
pub mod own_agent;
mod pump;
mod secrets;
mod stream;

pub use agent::Agent;
pub use secrets::Secret;

/// Why a session cannot be used.
pub type Status = tonic::Status;
