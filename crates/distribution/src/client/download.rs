//! The bytes of one blob from the servers that have it, in one piece whatever happens on the way: cut connections go on where
//! they were cut.

use std::time::{Duration, Instant};

use bytes::Buf;
use cais_sys::failpoint;
use cais_types::oci::Descriptor;
use tokio::sync::mpsc::Sender;

use super::body;
use super::error::RegistryError;
use super::progress::Step;
use super::reader::Piece;
use super::repository::Repository;

/// An attempt that brought less got nowhere. A connection that brings less in the time an answer may let wait is dead.
const PROGRESS_MIN: u64 = 1 << 10;

/// A blob that is being fetched.
pub struct Download<'a> {
    /// The servers, the first to be asked first.
    pub repositories: &'a [Repository],
    pub blob: &'a Descriptor,
    pub pieces: Sender<Piece>,
    /// Told of every step with the bytes that came so far.
    pub tell: &'a (dyn Fn(Step, u64) + Send + Sync),
}

impl Download<'_> {
    /// Sends the bytes from `at` to the end through the channel.
    pub async fn run(&self, mut at: u64) -> Result<(), RegistryError> {
        let (last, mirrors) = match self.repositories.split_last() {
            Some(parts) => parts,
            None => return Err(RegistryError::Settings("no server has the blob".into())),
        };
        for mirror in mirrors {
            match self.from(mirror, &mut at).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!("{}: {error}", mirror.session.endpoint.server.authority);
                }
            }
        }
        self.from(last, &mut at).await
    }

    /// Sends all bytes and the end, or that there is none.
    pub async fn whole(self) -> Result<(), RegistryError> {
        let fetched = self.run(0).await;
        let last = match &fetched {
            Ok(()) => Piece::End,
            Err(_) => Piece::Broken,
        };
        // Who does not read any more tells why.
        let _ = self.pieces.send(last).await;
        fetched
    }

    async fn from(&self, repository: &Repository, at: &mut u64) -> Result<(), RegistryError> {
        let mut patience = repository.session.patience();
        while *at < self.blob.size {
            let before = *at;
            let Err(error) = self.connection(repository, at).await else {
                continue;
            };
            let got_on = *at >= before + PROGRESS_MIN;
            if got_on {
                patience.restore();
            }
            let Some(wait) = patience.after(&error) else {
                return Err(error);
            };
            tracing::debug!("blob {} at {at}: {error}", self.blob.digest);
            if !got_on || error.retry_after().is_some() {
                if wait >= Duration::from_secs(1) {
                    (self.tell)(Step::Retrying(wait.as_secs()), *at);
                }
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    /// What one connection brings.
    async fn connection(&self, repository: &Repository, at: &mut u64) -> Result<(), RegistryError> {
        let mut incoming = repository.blob(self.blob, *at).await?;
        let mut skip = *at - incoming.offset;
        let timeout = repository.session.read_timeout();
        let (mut waited, mut came) = (Duration::ZERO, 0);
        let url = incoming.response.url().path().to_owned();
        let broken = |reason: &str| RegistryError::Transport {
            verb: "Get",
            url: url.clone(),
            reason: reason.to_owned(),
            passing: true,
        };
        loop {
            let asked = Instant::now();
            let Some(mut part) = body::next(&mut incoming.response, timeout).await? else {
                break;
            };
            waited += asked.elapsed();
            came += part.len() as u64;
            if waited >= timeout {
                if came < PROGRESS_MIN {
                    return Err(broken("the connection is too slow"));
                }
                (waited, came) = (Duration::ZERO, 0);
            }
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
            part.advance(known);
            skip -= known as u64;
            if part.is_empty() {
                continue;
            }
            let after = *at + part.len() as u64;
            if after > self.blob.size {
                return Err(RegistryError::Size {
                    what: "blob",
                    digest: self.blob.digest,
                    want: self.blob.size,
                    got: after,
                });
            }
            if self.pieces.send(Piece::Part(part)).await.is_err() {
                return Err(RegistryError::Unusable("nobody reads the layer".into()));
            }
            *at = after;
            failpoint::reach("pull-part");
            (self.tell)(Step::Downloading, after);
        }
        if *at < self.blob.size {
            return Err(broken("unexpected EOF"));
        }
        Ok(())
    }
}
