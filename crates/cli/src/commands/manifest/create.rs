//! `manifest create`: make a local list of manifests, to be annotated and pushed.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};
use cais_manifests::{Entry, ManifestStore, Registry, reference};

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: None,
    about: "Make a local list of manifests, to be annotated and pushed",
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    aliases: &[],
    arguments: Arguments::AtLeast(2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("amend", "Add to a list that is there").short('a'),
    switch(
        "insecure",
        "Let the registry speak plain HTTP, or have any certificate",
    ),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let (list_name, names) = (&args.positionals[0], &args.positionals[1..]);
    let list = reference(list_name).map_err(|error| {
        CliError::new(format!(
            "error parsing name for manifest list {list_name}: {}",
            error.message
        ))
    })?;
    let store = ManifestStore::new(app.config_dir());
    if store.list(&list)?.is_some() && !args.switch("amend") {
        return Err(CliError::new(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    for name in names {
        let manifest = reference(name)?;
        let known = store.get(&list, &manifest)?;
        let entry = match known {
            Some(entry) if is_whole(&entry)? => entry,
            _ => {
                let registry = Registry::new(&app.keychain(), &manifest, args.switch("insecure"))?;
                registry.manifest(&manifest).await?
            }
        };
        store.save(&list, &manifest, &entry)?;
    }
    app.printer.line(&format!("Created manifest list {list}"));
    Ok(0)
}

fn is_whole(entry: &Entry) -> Result<bool> {
    Ok(entry.bytes()?.is_some())
}
