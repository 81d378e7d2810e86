//! `volume rm`: remove volumes.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &["remove"],
    top: None,
    about: "Remove one or more volumes that no container uses",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    aliases: &["volume rm", "volume remove"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[switch("force", "Do not mind volumes that are not there").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let force = call.args.switch("force");
    each(app, &call.args.positionals, |name| async move {
        client.volume_remove(name, force).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
