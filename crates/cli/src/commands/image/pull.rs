//! `image pull`: get an image from a registry.

use cais_client::api::options::PullOptions;
use cais_types::Reference;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::content_trust;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::progress::{self, Target};
use crate::registry_access::privileged;

/// The verb.
pub const COMMAND: Command = Command {
    name: "pull",
    other_names: &[],
    top: Some("pull"),
    about: "Get an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    aliases: &["image pull", "pull"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS, content_trust::VERIFY],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all-tags", "Get every tag of the repository").short('a'),
    flag(
        "platform",
        "string",
        "Get the image of this platform, where there are several",
    )
    .since(32),
    switch("quiet", "Show only the name of the image").short('q'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let (all, quiet) = (args.switch("all-tags"), args.switch("quiet"));
    let image = named(app, &args.positionals[0], all, quiet)?;
    content_trust::refuse(args)?;
    let target = if quiet { Target::Quiet } else { Target::Stdout };
    pull(app, &image, &args.string("platform"), target).await?;
    app.printer.line(&image.to_string());
    Ok(0)
}

/// The image a user names: of all its tags none, else one.
///
/// # Errors
/// The name is none, or has a tag where all are wanted.
pub(super) fn named(app: &App, name: &str, all: bool, quiet: bool) -> Result<Reference> {
    let image: Reference = name
        .parse()
        .map_err(|error: cais_types::reference::ReferenceError| CliError::new(error.to_string()))?;
    if all && !image.is_name_only() {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    if all || !image.is_name_only() {
        return Ok(image);
    }
    let image = image.with_default_tag();
    if !quiet {
        let tag = image.tag().unwrap_or_default();
        app.printer.line(&format!("Using default tag: {tag}"));
    }
    Ok(image)
}

/// Pulls an image, or all tags of a repository when it has neither tag nor digest.
///
/// # Errors
/// The daemon's or the registry's refusal.
pub async fn pull(app: &App, image: &Reference, platform: &str, target: Target) -> Result<()> {
    let options = options(image, platform);
    fetch(app, image, options, target).await
}

/// Pulls what may be the cache of a build, all of it where the daemon is one of ours.
///
/// # Errors
/// As [`pull`].
pub async fn pull_whole(app: &App, image: &Reference, target: Target) -> Result<()> {
    let options = PullOptions {
        whole: app.client()?.is_cais(),
        ..options(image, "")
    };
    fetch(app, image, options, target).await
}

fn options(image: &Reference, platform: &str) -> PullOptions {
    PullOptions {
        repository: image.name(),
        tag: image
            .digest()
            .or(image.tag())
            .unwrap_or_default()
            .to_owned(),
        platform: platform.to_owned(),
        ..PullOptions::default()
    }
}

async fn fetch(app: &App, image: &Reference, options: PullOptions, target: Target) -> Result<()> {
    let client = app.client()?;
    let messages = privileged(app, image.domain(), "pull", |registry_auth| {
        let options = PullOptions {
            registry_auth,
            ..options.clone()
        };
        async move { client.image_pull(&options).await }
    })
    .await?;
    progress::show(messages, target, app.printer).await
}
