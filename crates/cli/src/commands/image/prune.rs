//! `image prune`: remove images nobody uses.

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
    about: "Remove unused images",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Remove named images without containers as well").short('a'),
    flag(
        "filter",
        "filter",
        "Remove only what meets a condition (such as \"until=24h\")",
    )
    .check(check_filter),
    switch("force", "Do not ask").short('f'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let all = call.args.switch("all");
    let mut filters = prune_filters(app, &call.args);
    filters.add("dangling", if all { "false" } else { "true" });
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !call.args.switch("force") && !confirm(&app.printer, warning).await? {
        return Ok(0);
    }
    let answer = app.client()?.image_prune(&filters).await?;
    let items = answer.images_deleted.unwrap_or_default();
    app.printer
        .out(&(removed::images(&items) + &removed::total(answer.space_reclaimed)));
    Ok(0)
}
