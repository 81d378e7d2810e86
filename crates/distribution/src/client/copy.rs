//! One blob from one repository into another, through this machine where the registry cannot do it by itself.

use cais_types::Reference;
use cais_types::oci::Descriptor;

use super::download::Download;
use super::error::RegistryError;
use super::pipe;
use super::registry::Shared;
use super::request::CopyAuth;
use super::transfers::Source;

const PARTS_MAX: usize = 8;

/// Sees to it that `target`'s repository has the blob.
pub async fn copy_blob(
    shared: &Shared,
    source: &Reference,
    target: &Reference,
    blob: &Descriptor,
    auth: &CopyAuth,
) -> Result<(), RegistryError> {
    let to = shared.push_target(target, auth.target.as_ref()).await?;
    if to.has_blob(&blob.digest).await?.is_some() {
        return Ok(());
    }
    let mut started = None;
    if source.domain() == target.domain() {
        match to.mount(&blob.digest, source.path()).await {
            Ok(None) => return Ok(()),
            Ok(Some(upload)) => started = Some(upload),
            Err(error) => tracing::debug!("mounting from {}: {error}", source.path()),
        }
    }
    let from: Source = shared.pull_source(source, auth.source.as_ref()).await?;
    let mut patience = to.session.patience();
    loop {
        let upload = match started.take() {
            Some(upload) => upload,
            None => to.start_upload().await?,
        };
        let (pieces, received) = tokio::sync::mpsc::channel(PARTS_MAX);
        let (body, flow) = pipe::body(received, |_| {});
        let download = Download {
            repositories: &from,
            blob,
            pieces,
            tell: &|_, _| {},
        };
        let putting = to.put_stream(upload, (&blob.digest, blob.size), body);
        let fetching = download.whole();
        let copied = async {
            let (put, fetched) = tokio::join!(putting, fetching);
            fetched.and(put)
        };
        let result = tokio::select! {
            result = copied => result,
            () = flow.stalled(to.session.read_timeout()) => Err(RegistryError::Transport {
                verb: "Put",
                url: to.session.endpoint.base().to_string(),
                reason: "write: i/o timeout".to_owned(),
                passing: true,
            }),
        };
        let Err(error) = result else {
            return Ok(());
        };
        let Some(wait) = patience.after(&error) else {
            return Err(error);
        };
        tokio::time::sleep(wait).await;
    }
}
