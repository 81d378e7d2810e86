//! `container unpause`: let all processes of one or more containers go on.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "unpause",
    other_names: &[],
    top: Some("unpause"),
    about: "Let all processes of one or more containers go on",
    usage: "CONTAINER [CONTAINER...]",
    aliases: &["container unpause", "unpause"],
    arguments: Arguments::AtLeast(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    each(app, &call.args.positionals, |name| async move {
        client.container_unpause(name).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
