//! `builder prune`: remove what builds left for the next ones.

use cais_types::api::query::BuildPruneQuery;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::{filtering, removed};
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
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
    flag(
        "filter",
        "filter",
        "Remove only what matches (until=24h, type=exec.cachemount)",
    ),
    switch("force", "Do not ask").short('f'),
    flag("keep-storage", "bytes", "The same as --reserved-space").default("0"),
    flag(
        "max-used-space",
        "bytes",
        "Remove until no more than this is used",
    )
    .default("0"),
    flag(
        "min-free-space",
        "bytes",
        "Remove until this much of the disk is free",
    )
    .default("0"),
    flag("reserved-space", "bytes", "Leave this much of the cache").default("0"),
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
    let reserved = call.args.bytes("reserved-space");
    let query = BuildPruneQuery {
        all,
        filters: filtering::prune_filters(app, &call.args),
        reserved_space: reserved.max(call.args.bytes("keep-storage")),
        max_used_space: call.args.bytes("max-used-space"),
        min_free_space: call.args.bytes("min-free-space"),
    };
    let answer = client.build_prune(&query).await?;
    let names = answer.caches_deleted.unwrap_or_default();
    app.printer.out(
        &(removed::list("Deleted build cache objects:", &names)
            + &removed::total(answer.space_reclaimed)),
    );
    Ok(0)
}
