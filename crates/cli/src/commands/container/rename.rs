//! `container rename`: rename a container.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::CliError;
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "rename",
    other_names: &[],
    top: Some("rename"),
    about: "Rename a container",
    usage: "CONTAINER NEW_NAME",
    aliases: &["container rename", "rename"],
    arguments: Arguments::Exact(2),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let name = call.args.positionals[0].trim();
    let new_name = call.args.positionals[1].trim();
    if name.is_empty() || new_name.is_empty() {
        return Err(CliError::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    match app.client()?.container_rename(name, new_name).await {
        Ok(()) => Ok(0),
        Err(error) => {
            app.printer.err_line(&error.to_string());
            Err(CliError::new(format!(
                "Error: failed to rename container named {name}"
            )))
        }
    }
}
