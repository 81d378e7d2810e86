//! `volume prune`: remove volumes nobody uses.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::filtering::prune_filters;
use crate::commands::{check_filter, removed};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::prompt::confirm;

/// The verb.
pub const COMMAND: Command = Command {
    name: "prune",
    other_names: &[],
    top: None,
    about: "Remove unused local volumes",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Remove named volumes as well").short('a'),
    flag(
        "filter",
        "filter",
        "Remove only what meets a condition (such as \"label=KEY\")",
    )
    .check(check_filter),
    switch("force", "Do not ask").short('f'),
];

/// Since this API version named volumes stay unless asked for.
const ANONYMOUS_ONLY_SINCE: u16 = 42;

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    client.negotiate().await?;
    let all = call.args.switch("all");
    let mut filters = prune_filters(app, &call.args);
    let old = client.api_minor() < ANONYMOUS_ONLY_SINCE;
    if all && old {
        return Err(CliError::new(format!(
            "\"--all\" requires API version 1.42, but the Docker daemon API version is {}",
            client.api_version()
        )));
    }
    if all && filters.contains("all") {
        return Err(CliError::new(
            "conflicting options: cannot specify both --all and --filter all=1",
        ));
    }
    if all {
        filters.add("all", "true");
    }
    let warning = if all || old {
        "WARNING! This will remove all local volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    if !call.args.switch("force") && !confirm(&app.printer, warning).await? {
        return Ok(0);
    }
    let answer = client.volume_prune(&filters).await?;
    let names = answer.volumes_deleted.unwrap_or_default();
    app.printer.out(
        &(removed::list("Deleted Volumes:", &names) + &removed::total(answer.space_reclaimed)),
    );
    Ok(0)
}
