//! `manifest push`: give a local list to a registry.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};
use cais_manifests::{Entry, ManifestStore, Registry, list_document, missing, reference};

/// The verb.
pub const COMMAND: Command = Command {
    name: "push",
    other_names: &[],
    top: None,
    about: "Give a local list of manifests to a registry",
    usage: "[OPTIONS] MANIFEST_LIST",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch(
        "insecure",
        "Let the registry speak plain HTTP, or have any certificate",
    ),
    switch("purge", "Forget the local list afterwards").short('p'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let target = reference(&args.positionals[0])?;
    let store = ManifestStore::new(app.config_dir());
    let entries = store.list(&target)?.ok_or_else(|| missing(&target))?;
    if entries.is_empty() {
        return Err(CliError::new(format!("{target} not found")));
    }
    for entry in &entries {
        let platform = entry.descriptor.platform.as_ref();
        if platform
            .is_none_or(|platform| platform.os.is_empty() || platform.architecture.is_empty())
        {
            return Err(CliError::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                entry.reference
            )));
        }
    }
    let (document, media_type) = list_document(&entries, &target)?;
    let registry = Registry::new(&app.keychain(), &target, args.switch("insecure"))?;
    for entry in &entries {
        bring(app, &registry, entry, &target).await?;
    }
    let digest = registry.put(&target, document, media_type).await?;
    app.printer.line(&digest.to_string());
    if args.switch("purge") {
        store.remove(&target)?;
    }
    Ok(0)
}

/// Sees to it that the list's repository has a manifest and all it leads to.
async fn bring(
    app: &App,
    registry: &Registry,
    entry: &Entry,
    target: &cais_types::Reference,
) -> Result<()> {
    let source = entry.repository()?;
    if source.path() == target.path() {
        return Ok(());
    }
    for blob in entry.blobs()? {
        registry.bring(&source, target, &blob).await?;
    }
    let digest = entry.descriptor.digest.to_string();
    let own = target
        .with_digest(&digest)
        .map_err(|error| CliError::new(error.to_string()))?;
    let bytes = entry
        .bytes()?
        .ok_or_else(|| CliError::new(format!("{} has no payload", entry.reference)))?;
    let put = registry
        .put(&own, bytes, &entry.descriptor.media_type)
        .await?;
    app.printer
        .line(&format!("Pushed ref {own} with digest: {put}"));
    Ok(())
}
