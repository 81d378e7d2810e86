//! The client's side: serves what it lends.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::Server;

use crate::secrets::Secret;
use crate::stream::Stream;
use crate::{agent, secrets};

/// What a client lends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loans {
    pub secrets: BTreeMap<String, Secret>,
    pub agents: BTreeMap<String, agent::Agent>,
}

impl Loans {
    /// Whether there is nothing to lend.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.agents.is_empty()
    }

    /// The methods that are served, as `POST /session` tells them.
    pub fn methods() -> [&'static str; 3] {
        [
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
            "/moby.sshforward.v1.SSH/CheckAgent",
            "/moby.sshforward.v1.SSH/ForwardAgent",
        ]
    }
}

/// Serves a connection for as long as the future is polled.
///
/// # Errors
/// Those of the connection.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    loans: Loans,
) -> Result<(), tonic::transport::Error> {
    let one = stream::once(async { Ok::<_, std::io::Error>(Stream { io, _held: () }) });
    Server::builder()
        .add_service(SecretsServer::new(secrets::Lent(loans.secrets)))
        .add_service(SshServer::new(agent::Lent(loans.agents)))
        .serve_with_incoming(one.chain(stream::pending()))
        .await
}
