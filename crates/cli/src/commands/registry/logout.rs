//! `logout`: forget the credentials for a registry.

use cais_client::credentials::{DOCKER_HUB, host_of};

use crate::app::{AUTH_VARIABLE, App};
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "logout",
    other_names: &[],
    top: Some("logout"),
    about: "Log out from a registry; Docker Hub unless one is named",
    usage: "[SERVER]",
    aliases: &[],
    arguments: Arguments::AtMost(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let keychain = app.keychain();
    if keychain.has_preset() {
        app.printer.err_line(&format!(
            "WARNING: {AUTH_VARIABLE} is set and takes precedence."
        ));
    }
    let address = call.args.positionals.first().map(String::as_str);
    let (host, keys) = match address {
        None | Some("") => (DOCKER_HUB, vec![DOCKER_HUB.to_owned()]),
        Some(address) => {
            let host = host_of(address);
            // Older files have URLs as keys.
            let mut keys = vec![address.to_owned(), host.to_owned()];
            keys.extend(["http://", "https://"].map(|scheme| format!("{scheme}{host}")));
            keys.dedup();
            (host, keys)
        }
    };
    app.printer
        .line(&format!("Removing login credentials for {host}"));
    let failures: Vec<String> = keys
        .iter()
        .filter_map(|key| Some(format!("{key}: {}", keychain.erase(key).err()?)))
        .collect();
    if failures.len() == keys.len() {
        app.printer
            .err_line("WARNING: could not erase credentials:");
        for failure in failures {
            app.printer.err_line(&failure);
        }
    }
    Ok(0)
}
