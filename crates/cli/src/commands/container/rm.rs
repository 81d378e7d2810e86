//! `container rm`: remove one or more containers.

use cais_client::api::options::RemoveOptions;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::CliError;
use crate::error::Result;
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &["remove"],
    top: Some("rm"),
    about: "Remove one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container rm", "container remove", "rm"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("force", "Kill a running container, then remove it").short('f'),
    switch("link", "Remove the named link, not the container").short('l'),
    switch(
        "volumes",
        "Remove anonymous volumes of the container as well",
    )
    .short('v'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let options = RemoveOptions {
        volumes: call.args.switch("volumes"),
        force: call.args.switch("force"),
        link: call.args.switch("link"),
    };
    each(app, &call.args.positionals, |name| async move {
        let bare = name.trim_matches('/');
        if bare.is_empty() {
            return Err(CliError::new("Container name cannot be empty"));
        }
        match client.container_remove(bare, options).await {
            // Forced removal wants the container gone, and it is.
            Err(error) if options.force && error.is_not_found() => {
                app.printer.err_line(&error.to_string());
                Ok(None)
            }
            result => result
                .map(|()| Some(name.to_owned()))
                .map_err(CliError::from),
        }
    })
    .await
}
