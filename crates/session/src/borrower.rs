//! The daemon's side: the sessions of its clients, and what it borrows from them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use cais_types::{Error, Result};
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::Notify;
use tokio_util::io::ReaderStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::stream::Stream;
use crate::{Status, agent, pump};

/// How long a build waits for the session that it names.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sessions of all clients, by their ids.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: Mutex<BTreeMap<String, Channel>>,
    changed: Notify,
}

/// A session in the table; it leaves with its connection.
struct Entry {
    shared: Arc<Shared>,
    id: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.id);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Channel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Takes a client's connection.
    ///
    /// # Errors
    /// The client does not speak HTTP/2.
    pub async fn open(
        &self,
        id: &str,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<()> {
        let entry = Entry {
            shared: Arc::clone(&self.0),
            id: id.to_owned(),
        };
        let mut stream = Some(Stream { io, _held: entry });
        let connect = tower::service_fn(move |_| {
            let gone = || io::Error::from(io::ErrorKind::NotConnected);
            let stream = stream.take().map(TokioIo::new).ok_or_else(gone);
            std::future::ready(stream)
        });
        let endpoint = Endpoint::from_static("http://session");
        let channel = endpoint.connect_with_connector(connect).await;
        let channel = channel.map_err(|error| Error::invalid(format!("session: {error}")))?;
        self.0.lock().insert(id.to_owned(), channel);
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// The session of this id, which may be about to come.
    ///
    /// # Errors
    /// Not found: it does not come.
    pub async fn find(&self, id: &str) -> Result<Session> {
        let found = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(channel) = self.0.lock().get(id) {
                    return Session(channel.clone());
                }
                changed.await;
            }
        };
        let missing = |_| Error::not_found(format!("no active session for {id}"));
        tokio::time::timeout(PATIENCE, found).await.map_err(missing)
    }
}

/// What a client lends.
#[derive(Clone)]
pub struct Session(Channel);

impl Session {
    /// A secret; none if the client has none of this id.
    ///
    /// # Errors
    /// The client has gone, or it cannot read the secret.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let request = GetSecretRequest {
            id: id.to_owned(),
            ..GetSecretRequest::default()
        };
        let mut client = SecretsClient::new(self.0.clone());
        let answer = found(client.get_secret(request).await)?;
        Ok(answer.map(|answer| answer.into_inner().data))
    }

    /// Whether the client lends this agent.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn has_agent(&self, id: &str) -> Result<bool> {
        let request = CheckAgentRequest { id: id.to_owned() };
        let mut client = SshClient::new(self.0.clone());
        Ok(found(client.check_agent(request).await)?.is_some())
    }

    /// Connects one user of an agent with it, until either ends.
    ///
    /// # Errors
    /// The client has gone, or its agent.
    pub async fn forward(
        &self,
        id: &str,
        user: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<()> {
        let (reader, writer) = split(user);
        let pieces =
            ReaderStream::new(reader).take_while(|piece| std::future::ready(piece.is_ok()));
        let messages = pieces.map(|piece| BytesMessage {
            data: piece.unwrap_or_default().into(),
        });
        let mut request = Request::new(messages);
        let name = MetadataValue::try_from(id)
            .map_err(|_| Error::invalid(format!("{id:?} is no name of an agent")))?;
        request.metadata_mut().insert(agent::ID, name);
        let mut client = SshClient::new(self.0.clone());
        let answer = client.forward_agent(request).await;
        let answers = answer.map_err(|status| failed(&status))?.into_inner();
        pump::write(answers, writer).await;
        Ok(())
    }
}

/// What the client says it does not have is none.
fn found<T>(answer: Result<T, Status>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound || status.code() == Code::Unimplemented => {
            Ok(None)
        }
        Err(status) => Err(failed(&status)),
    }
}

fn failed(status: &Status) -> Error {
    Error::invalid(format!("the build's client: {}", status.message()))
}
