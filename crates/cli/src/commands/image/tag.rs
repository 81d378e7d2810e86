//! `image tag`: give an image another name.

use cais_types::Reference;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};

/// The verb.
pub const COMMAND: Command = Command {
    name: "tag",
    other_names: &[],
    top: Some("tag"),
    about: "Give an image another name",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    aliases: &["image tag", "tag"],
    arguments: Arguments::Exact(2),
    flags: &[],
    interspersed: false,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let (source, target) = (&call.args.positionals[0], &call.args.positionals[1]);
    let bad = |name: &str, error: &dyn std::fmt::Display| {
        CliError::new(format!(
            "Error parsing reference: {name:?} is not a valid repository/tag: {error}"
        ))
    };
    if let Err(error) = source.parse::<cais_types::reference::AnyReference>() {
        return Err(bad(source, &error));
    }
    let reference: Reference = target.parse().map_err(|error| bad(target, &error))?;
    if reference.digest().is_some() {
        return Err(CliError::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let reference = reference.with_default_tag();
    app.client()?
        .image_tag(
            source,
            &reference.familiar_name(),
            reference.tag().unwrap_or_default(),
        )
        .await?;
    Ok(0)
}
