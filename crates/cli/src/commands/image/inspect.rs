//! `image inspect`: show everything the daemon knows about images.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::inspecting;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::platform;

/// The verb.
pub const COMMAND: Command = Command {
    name: "inspect",
    other_names: &[],
    top: None,
    about: "Show everything the daemon knows about images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    aliases: &[],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("format", "string", "Output as 'json', or by a Go template").short('f'),
    flag(
        "platform",
        "string",
        "Inspect this platform of the image (os[/arch[/variant]])",
    )
    .since(49),
];

async fn run(app: &App, call: Invocation) -> Result {
    let platform = platform::optional(call.args.value("platform")).map_err(CliError::new)?;
    let platform = platform.as_ref();
    let client = app.client()?;
    let format = call.args.string("format");
    inspecting::inspect(app, &format, &call.args.positionals, |name| async move {
        Ok(client.image_inspect(name, platform).await?.raw().clone())
    })
    .await
}
