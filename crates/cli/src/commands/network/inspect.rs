//! `network inspect`: show everything the daemon knows about networks.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::inspecting;
use crate::error::Result;
use crate::flags::{Flag, flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "inspect",
    other_names: &[],
    top: None,
    about: "Show everything the daemon knows about networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    aliases: &[],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("format", "string", "Output as 'json', or by a Go template").short('f'),
    switch("verbose", "Show diagnostics as well").short('v'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let verbose = call.args.switch("verbose");
    let format = call.args.string("format");
    inspecting::inspect(app, &format, &call.args.positionals, |name| async move {
        Ok(client.network_inspect(name, verbose).await?.raw().clone())
    })
    .await
}
