//! `container stop`: stop one or more running containers.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;

use super::stopping;

/// The verb.
pub const COMMAND: Command = Command {
    name: "stop",
    other_names: &[],
    top: Some("stop"),
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container stop", "stop"],
    arguments: Arguments::AtLeast(1),
    flags: &[stopping::FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let options = &stopping::options(&call.args);
    each(app, &call.args.positionals, |name| async move {
        client.container_stop(name, options).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
