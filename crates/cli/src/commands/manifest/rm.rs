//! `manifest rm`: forget local lists.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use cais_manifests::{ManifestStore, missing, reference};

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &[],
    top: None,
    about: "Forget local lists of manifests",
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    aliases: &[],
    arguments: Arguments::AtLeast(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let store = ManifestStore::new(app.config_dir());
    let remove = |name: &String| {
        let list = reference(name)?;
        match store.list(&list)? {
            Some(_) => store.remove(&list),
            None => Err(missing(&list)),
        }
    };
    let failures: Vec<String> = call
        .args
        .positionals
        .iter()
        .filter_map(|name| Some(remove(name).err()?.message))
        .collect();
    if failures.is_empty() {
        return Ok(0);
    }
    Err(CliError::new(failures.join("\n")))
}
