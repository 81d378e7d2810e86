//! `context show`: print the name of the current context.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "show",
    other_names: &[],
    top: None,
    about: "Print the name of the current context",
    usage: "",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, _call: Invocation) -> Result {
    app.printer.line(&app.current_context());
    Ok(0)
}
