//! `container wait`: wait until one or more containers stop, then print their exit codes.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::CliError;
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "wait",
    other_names: &[],
    top: Some("wait"),
    about: "Wait until one or more containers stop, then print their exit codes",
    usage: "CONTAINER [CONTAINER...]",
    aliases: &["container wait", "wait"],
    arguments: Arguments::AtLeast(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    each(app, &call.args.positionals, |name| async move {
        let answer = client.container_wait(name, "").await?.answer().await?;
        match answer.error.filter(|error| !error.message.is_empty()) {
            Some(error) => Err(CliError::new(error.message)),
            None => Ok(Some(answer.status_code.to_string())),
        }
    })
    .await
}
