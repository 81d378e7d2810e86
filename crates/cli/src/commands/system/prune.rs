//! `system prune`: remove everything nobody uses.

use cais_types::api::query::{BuildPruneQuery, Filters};

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
    about: "Remove everything nobody uses",
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
        "Remove only what meets a condition (such as \"label=KEY=VALUE\")",
    )
    .check(check_filter),
    switch("force", "Do not ask").short('f'),
    switch("volumes", "Remove anonymous volumes as well"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let all = call.args.switch("all");
    let volumes = call.args.switch("volumes");
    let filters = prune_filters(app, &call.args);
    if volumes && filters.contains("until") {
        return Err(CliError::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !call.args.switch("force")
        && !confirm(&app.printer, &warning(all, volumes, &filters)).await?
    {
        return Ok(0);
    }
    let client = app.client()?;
    let containers = client.container_prune(&filters).await?;
    let mut total = containers.space_reclaimed;
    let names = containers.containers_deleted.unwrap_or_default();
    app.printer
        .out(&removed::list("Deleted Containers:", &names));
    let networks = client.network_prune(&filters).await?;
    let names = networks.networks_deleted.unwrap_or_default();
    app.printer.out(&removed::list("Deleted Networks:", &names));
    if volumes {
        let answer = client.volume_prune(&filters).await?;
        total += answer.space_reclaimed;
        let names = answer.volumes_deleted.unwrap_or_default();
        app.printer.out(&removed::list("Deleted Volumes:", &names));
    }
    let mut image_filters = filters.clone();
    image_filters.add("dangling", if all { "false" } else { "true" });
    let images = client.image_prune(&image_filters).await?;
    total += images.space_reclaimed;
    let items = images.images_deleted.unwrap_or_default();
    app.printer.out(&removed::images(&items));
    // Records of a cache have no labels.
    let labelled = ["label", "label!"]
        .iter()
        .any(|name| !filters.get(name).is_empty());
    let query = BuildPruneQuery {
        all,
        filters,
        ..BuildPruneQuery::default()
    };
    if labelled {
        app.printer.out(&removed::total(total));
        return Ok(0);
    }
    match client.build_prune(&query).await {
        Ok(answer) => {
            total += answer.space_reclaimed;
            let names = answer.caches_deleted.unwrap_or_default();
            app.printer
                .out(&removed::list("Deleted build cache objects:", &names));
        }
        // A daemon without a builder has no build cache either.
        Err(error)
            if error.is_not_found() || error.class() == cais_types::ErrorClass::Unsupported => {}
        Err(error) => return Err(error.into()),
    }
    app.printer.out(&removed::total(total));
    Ok(0)
}

fn warning(all: bool, volumes: bool, filters: &Filters) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    if all {
        lines.push("all images without at least one container associated to them");
        lines.push("all build cache");
    } else {
        lines.push("all dangling images");
        lines.push("unused build cache");
    }
    let mut text = "WARNING! This will remove:\n".to_owned();
    for line in lines {
        text.push_str(&format!("  - {line}\n"));
    }
    let pairs = filters
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}={value}")));
    let pairs: Vec<String> = pairs.collect();
    if !pairs.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for pair in pairs {
            text.push_str(&format!("  - {pair}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_lists_what_goes() {
        let mut filters = Filters::default();
        filters.add("label", "x");
        assert_eq!(
            warning(false, false, &filters),
            "WARNING! This will remove:\n  - all stopped containers\n\
             \x20 - all networks not used by at least one container\n  - all dangling images\n  - unused build cache\n\n\
             \x20 Items to be pruned will be filtered with:\n  - label=x\n"
        );
        assert!(warning(true, true, &Filters::default()).ends_with(
            "  - all anonymous volumes not used by at least one container\n\
             \x20 - all images without at least one container associated to them\n  - all build cache\n"
        ));
    }
}
