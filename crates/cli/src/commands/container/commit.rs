//! `container commit`: make an image of a container.

use cais_client::api::options::CommitOptions;
use cais_types::Reference;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "commit",
    other_names: &[],
    top: Some("commit"),
    about: "Make an image of a container",
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    aliases: &["container commit", "commit"],
    arguments: Arguments::Between(1, 2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "author",
        "string",
        "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")",
    )
    .short('a'),
    flag(
        "change",
        "list",
        "Apply a Dockerfile instruction to the image",
    )
    .short('c'),
    flag("message", "string", "Commit message of the image").short('m'),
    switch("pause", "Let the container stand still meanwhile")
        .short('p')
        .default("true"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let mut options = CommitOptions {
        container: args.positionals[0].clone(),
        comment: args.string("message"),
        author: args.string("author"),
        changes: args.list("change"),
        pause: args.switch_or("pause", true),
        ..CommitOptions::default()
    };
    if let Some(name) = args.positionals.get(1).filter(|name| !name.is_empty()) {
        let image: Reference =
            name.parse()
                .map_err(|error: cais_types::reference::ReferenceError| {
                    CliError::new(error.to_string())
                })?;
        if image.digest().is_some() {
            return Err(CliError::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        let image = image.with_default_tag();
        options.repository = image.name();
        options.tag = image.tag().unwrap_or_default().to_owned();
    }
    let id = app.client()?.container_commit(&options).await?;
    app.printer.line(&id);
    Ok(0)
}
