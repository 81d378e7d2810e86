//! `image load`: take images from a tar archive.

use crate::app::App;
use crate::archive;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::progress::{self, Target};
use crate::{platform, terminal};

/// The verb.
pub const COMMAND: Command = Command {
    name: "load",
    other_names: &[],
    top: Some("load"),
    about: "Take images from a tar archive or STDIN",
    usage: "[OPTIONS]",
    aliases: &["image load", "load"],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "input",
        "string",
        "Read from a tar archive, instead of STDIN",
    )
    .short('i'),
    flag(
        "platform",
        "string",
        "Take only this platform (os[/arch[/variant]])",
    )
    .since(48),
    switch("quiet", "Do not show progress").short('q'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let platform = platform::optional(call.args.value("platform"))
        .map_err(|error| CliError::new(format!("invalid platform: {error}")))?;
    let input = call.args.string("input");
    if input.is_empty() && terminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new(
            "requested load from stdin, but stdin is empty",
        ));
    }
    let body = archive::source(if input.is_empty() { "-" } else { &input })?;
    let quiet = call.args.switch("quiet") || !terminal::is_terminal(&std::io::stdout());
    let client = app.client()?;
    client.negotiate().await?;
    let messages = client.image_load(body, quiet, platform.as_ref()).await?;
    progress::show(messages, Target::Stdout, app.printer).await?;
    Ok(0)
}
