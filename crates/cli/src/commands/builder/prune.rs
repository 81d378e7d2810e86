//! `builder prune`: forget which steps were built.

use cais_client::api::Filters;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::removed;
use crate::error::Result;
use crate::flags::{Flag, switch};
use crate::prompt::confirm;

/// The verb.
pub const COMMAND: Command = Command {
    name: "prune",
    other_names: &[],
    top: None,
    about: "Remove the build cache",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Remove what is in use as well").short('a'),
    switch("force", "Do not ask").short('f'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let all = call.args.switch("all");
    let warning = if all {
        "WARNING! This will remove all build cache."
    } else {
        "WARNING! This will remove all dangling build cache."
    };
    if !call.args.switch("force") && !confirm(&app.printer, warning).await? {
        return Ok(0);
    }
    let client = app.client()?;
    client.negotiate().await?;
    let answer = client.build_prune(all, &Filters::default()).await?;
    let names = answer.caches_deleted.unwrap_or_default();
    app.printer.out(
        &(removed::list("Deleted build cache objects:", &names)
            + &removed::total(answer.space_reclaimed)),
    );
    Ok(0)
}
