//! Agents for SSH keys, served by the client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::{Stream, StreamExt};
use tokio::io::{DuplexStream, split};
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Streaming};

use crate::keys::relay;
use crate::{Status, pump};

/// Requests and answers on the way between a step and its agent, in bytes.
const BUFFER: usize = 64 * 1024;
/// The key of a request's metadata that names the agent.
pub const ID: &str = "buildkit.ssh.id";
/// The name of an agent when nothing else is said.
pub const DEFAULT: &str = "default";

/// An agent's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent(pub PathBuf);

/// The agents a client lends, by id.
pub struct Lent(pub BTreeMap<String, Agent>);

impl Lent {
    fn find(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        let missing = || Status::not_found(format!("unset ssh forward key {id}"));
        self.0.get(id).ok_or_else(missing)
    }
}

#[async_trait::async_trait]
impl Ssh for Lent {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.find(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID).and_then(|id| id.to_str().ok());
        let Agent(path) = self.find(id.unwrap_or_default())?;
        let failed = |error| Status::unavailable(format!("{}: {error}", path.display()));
        let agent = UnixStream::connect(path).await.map_err(failed)?;
        let (near, far) = tokio::io::duplex(BUFFER);
        tokio::spawn(async move { relay(split(far), split(agent)).await });
        Ok(Response::new(answers(near, request.into_inner())))
    }
}

/// Feeds what comes to one end of a pipe; what it answers is the stream.
fn answers(
    pipe: DuplexStream,
    requests: Streaming<BytesMessage>,
) -> <Lent as Ssh>::ForwardAgentStream {
    let (reader, writer) = split(pipe);
    tokio::spawn(pump::write(requests, writer));
    let pieces = ReaderStream::with_capacity(reader, BUFFER);
    Box::pin(pieces.map(|piece| {
        let data = piece.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(BytesMessage { data: data.into() })
    }))
}
