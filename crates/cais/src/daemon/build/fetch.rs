//! Files behind URLs, for ADD and as contexts.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use cais_build::dockerfile::git_ref::GitRef;
use cais_build::git::Git;
use cais_build::messages::canceled;
use cais_build::ports::{Fetched, Fetcher};
use cais_distribution::client::{ClientConfig, RemoteFile};
use cais_types::{Error, Result};
use jiff::fmt::rfc2822;
use rustix::fs::{Mode, OFlags};
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

    fn checkout(&self, repository: &GitRef, into: &Path) -> Result<PathBuf> {
        checkout(repository, into)
    }
}

/// Fetches a repository with the git of this host, without anybody's configuration.
pub fn checkout(repository: &GitRef, into: &Path) -> Result<PathBuf> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let git = Git {
        search_path: &search_path,
        as_user: false,
    };
    Ok(git.checkout(repository, into)?)
}

/// What is behind the URL of a context, in a file without a name.
pub fn context(
    config: &ClientConfig,
    handle: &Handle,
    url: &str,
    directory: &Path,
) -> Result<File> {
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(Error::invalid(format!(
            "the context {url:?} is neither a git repository nor an http(s) URL"
        )));
    }
    let failed = |error: std::io::Error| Error::internal(format!("{url}: {error}"));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
    handle.block_on(fetch(config, url, &file))?;
    file.rewind().map_err(failed)?;
    Ok(file)
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
