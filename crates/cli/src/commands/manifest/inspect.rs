//! `manifest inspect`: show a manifest or a list, local or of a registry.

use cais_types::Reference;
use serde::Serialize;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};
use cais_manifests::{
    Entry, Found, ManifestStore, Registry, indented, list_document, missing, reference,
};

/// The verb.
pub const COMMAND: Command = Command {
    name: "inspect",
    other_names: &[],
    top: None,
    about: "Show a manifest or a list of manifests",
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    aliases: &[],
    arguments: Arguments::Between(1, 2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch(
        "insecure",
        "Let the registry speak plain HTTP, or have any certificate",
    ),
    switch("verbose", "Show layers and platforms as well").short('v'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let verbose = args.switch("verbose");
    let store = ManifestStore::new(app.config_dir());
    let text = match args.positionals.as_slice() {
        [list, name] => {
            let name = reference(name)?;
            let entry = store.get(&reference(list)?, &name)?;
            of_manifest(&entry.ok_or_else(|| missing(&name))?, verbose)?
        }
        names => {
            let name = reference(&names[0])?;
            match store.list(&name)? {
                Some(entries) => of_list(&entries, &name, verbose)?,
                None => {
                    let registry = Registry::new(&app.keychain(), &name, args.switch("insecure"))?;
                    match registry.find(&name).await? {
                        Found::Manifest(entry) => of_manifest(&entry, verbose)?,
                        Found::List(entries) => of_list(&entries, &name, verbose)?,
                    }
                }
            }
        }
    };
    app.printer.line(&text);
    Ok(0)
}

fn of_manifest(entry: &Entry, verbose: bool) -> Result<String> {
    if verbose {
        return shown(entry);
    }
    match entry.bytes()? {
        Some(bytes) => {
            let document: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))?;
            text(&document)
        }
        None => Err(CliError::new(format!("{} has no payload", entry.reference))),
    }
}

fn of_list(entries: &[Entry], name: &Reference, verbose: bool) -> Result<String> {
    if verbose {
        return shown(&entries);
    }
    let (bytes, _) = list_document(entries, name)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON with the escapes of Go's encoder.
fn shown(value: &impl Serialize) -> Result<String> {
    let mut text = text(value)?;
    for (letter, code) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
        text = text.replace(letter, code);
    }
    Ok(text)
}

fn text(value: &impl Serialize) -> Result<String> {
    let bytes = indented(value, b"\t").map_err(|error| CliError::new(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
