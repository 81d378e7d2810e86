//! `network rm`: remove networks.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &["remove"],
    top: None,
    about: "Remove one or more networks",
    usage: "NETWORK [NETWORK...]",
    aliases: &["network rm", "network remove"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[switch("force", "Do not mind networks that are not there").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let force = call.args.switch("force");
    let mut failed = false;
    for name in &call.args.positionals {
        match client.network_remove(name).await {
            Ok(()) => app.printer.line(name),
            Err(error) if force && error.is_not_found() => {}
            Err(error) => {
                app.printer.err_line(&error.to_string());
                failed = true;
            }
        }
    }
    if failed {
        // Docker ends so, after it told each failure.
        return Err(CliError::new("exit status 1"));
    }
    Ok(0)
}
