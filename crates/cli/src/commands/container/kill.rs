//! `container kill`: kill one or more running containers.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;
use crate::flags::{Flag, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "kill",
    other_names: &[],
    top: Some("kill"),
    about: "Kill one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container kill", "kill"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[flag("signal", "string", "Signal to send to the container").short('s')];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let signal = call.args.string("signal");
    let signal = signal.as_str();
    each(app, &call.args.positionals, |name| async move {
        client.container_kill(name, signal).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
