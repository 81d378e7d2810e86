//! `container pause`: pause all processes of one or more containers.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "pause",
    other_names: &[],
    top: Some("pause"),
    about: "Pause all processes of one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    aliases: &["container pause", "pause"],
    arguments: Arguments::AtLeast(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    each(app, &call.args.positionals, |name| async move {
        client.container_pause(name).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
