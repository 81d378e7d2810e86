//! `image rm`, better known as `rmi`: remove images.

use cais_client::api::options::ImageRemoveOptions;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::platform;

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &["remove"],
    top: Some("rmi"),
    about: "Remove one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    aliases: &["image rm", "image remove", "rmi"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("force", "Remove images that containers or other names use").short('f'),
    switch("no-prune", "Keep untagged parents"),
    flag(
        "platform",
        "strings",
        "Remove only these platforms (os[/arch[/variant]])",
    )
    .since(50),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let force = args.switch("force");
    let platforms = args
        .list("platform")
        .iter()
        .flat_map(|list| list.split(','))
        .map(platform::parse)
        .collect::<std::result::Result<_, _>>()
        .map_err(CliError::new)?;
    let options = ImageRemoveOptions {
        force,
        no_prune: args.switch("no-prune"),
        platforms,
        ..ImageRemoveOptions::default()
    };
    let client = app.client()?;
    let mut failures = Vec::new();
    let mut fatal = false;
    for name in &args.positionals {
        match client.image_remove(name, &options).await {
            Ok(items) => {
                for item in items {
                    app.printer.line(&if item.deleted.is_empty() {
                        format!("Untagged: {}", item.untagged)
                    } else {
                        format!("Deleted: {}", item.deleted)
                    });
                }
            }
            Err(error) => {
                fatal |= !error.is_not_found();
                failures.push(error.to_string());
            }
        }
    }
    if failures.is_empty() {
        return Ok(0);
    }
    let message = failures.join("\n");
    if force && !fatal {
        app.printer.err_line(&message);
        return Ok(0);
    }
    Err(CliError::new(message))
}
