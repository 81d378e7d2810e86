//! `context use`: make a context the current one.

use super::{OVERRIDDEN, host_overrides};
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::context_store::{ContextStore, DEFAULT, set_current};
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "use",
    other_names: &[],
    top: None,
    about: "Make a context the current one",
    usage: "CONTEXT",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let name = &call.args.positionals[0];
    if name != DEFAULT {
        ContextStore::new(app.config_dir()).get(name)?;
    }
    set_current(app, name)?;
    app.printer.line(name);
    app.printer
        .err_line(&format!("Current context is now {name:?}"));
    if name != DEFAULT && host_overrides() {
        app.printer.err_line(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, {OVERRIDDEN}"
        ));
    }
    Ok(0)
}
