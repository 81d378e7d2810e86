//! `network prune`: remove networks nobody uses.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::filtering::prune_filters;
use crate::commands::{check_filter, removed};
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::prompt::confirm;

/// The verb.
pub const COMMAND: Command = Command {
    name: "prune",
    other_names: &[],
    top: None,
    about: "Remove all unused networks",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "filter",
        "filter",
        "Remove only what meets a condition (such as \"until=24h\")",
    )
    .check(check_filter),
    switch("force", "Do not ask").short('f'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let warning =
        "WARNING! This will remove all custom networks not used by at least one container.";
    if !call.args.switch("force") && !confirm(&app.printer, warning).await? {
        return Ok(0);
    }
    let answer = app
        .client()?
        .network_prune(&prune_filters(app, &call.args))
        .await?;
    let names = answer.networks_deleted.unwrap_or_default();
    app.printer.out(&removed::list("Deleted Networks:", &names));
    Ok(0)
}
