//! Files behind URLs, for ADD.

use std::fs::File;
use std::io::Write as _;

use cais_build::messages::canceled;
use cais_build::ports::{Fetched, Fetcher};
use cais_distribution::client::{ClientConfig, RemoteFile};
use cais_types::{Error, Result};
use jiff::fmt::rfc2822;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Fetches for one client.
pub struct Web<T> {
    pub config: ClientConfig,
    pub handle: Handle,
    /// Closed when the client has gone.
    pub client: mpsc::Sender<T>,
}

impl<T: Send> Fetcher for Web<T> {
    fn fetch(&self, url: &str, file: &File) -> Result<Fetched> {
        self.handle.block_on(async {
            tokio::select! {
                fetched = fetch(&self.config, url, file) => fetched,
                () = self.client.closed() => Err(canceled()),
            }
        })
    }
}

async fn fetch(config: &ClientConfig, url: &str, mut file: &File) -> Result<Fetched> {
    let mut remote = RemoteFile::open(config, url).await?;
    while let Some(part) = remote.next().await? {
        file.write_all(&part)
            .map_err(|error| Error::internal(format!("{url}: {error}")).with_source(error))?;
    }
    let time = remote
        .last_modified()
        .and_then(|text| rfc2822::parse(text).ok())
        .map(|time| time.timestamp().as_second());
    Ok(Fetched {
        name: remote.name(),
        time,
    })
}
