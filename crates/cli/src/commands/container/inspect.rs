//! `container inspect`: show everything the daemon knows about containers.

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
    about: "Show everything the daemon knows about containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &[],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("format", "string", "Output as 'json', or by a Go template").short('f'),
    switch("size", "Show file sizes").short('s'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let size = call.args.switch("size");
    let format = call.args.string("format");
    inspecting::inspect(app, &format, &call.args.positionals, |name| async move {
        Ok(client.container_inspect(name, size).await?.raw().clone())
    })
    .await
}
