//! `context update`: change a context.

use super::create::changed;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::context_store::{ContextStore, check_name};
use crate::error::Result;
use crate::flags::{Flag, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "update",
    other_names: &[],
    top: None,
    about: "Change a context",
    usage: "[OPTIONS] CONTEXT",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("description", "string", "A line about the context"),
    flag("docker", "stringToString", "The daemon: host=ADDRESS").default("[]"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let name = &call.args.positionals[0];
    check_name(name)?;
    let store = ContextStore::new(app.config_dir());
    store.put(&changed(store.get(name)?, &call.args)?)?;
    app.printer.line(name);
    app.printer
        .err_line(&format!("Successfully updated context {name:?}"));
    Ok(0)
}
