//! `image push`: give an image to a registry.

use cais_client::api::options::PushOptions;
use cais_types::Reference;
use cais_types::oci::Platform;
use serde_json::Value;

use super::pull::named;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::content_trust;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::progress::{self, Target};
use crate::registry_access::privileged;
use crate::{note, platform};

/// The verb.
pub const COMMAND: Command = Command {
    name: "push",
    other_names: &[],
    top: Some("push"),
    about: "Give an image to a registry",
    usage: "[OPTIONS] NAME[:TAG]",
    aliases: &["image push", "push"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS, content_trust::SIGN],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all-tags", "Give every tag of the repository").short('a'),
    flag(
        "platform",
        "string",
        "Give only this platform (os[/arch[/variant]]) of an image for several, without its index and attestations",
    )
    .since(46),
    switch("quiet", "Show only the name of the image").short('q'),
];

const ONE_PLATFORM: &str = "Using *--platform* pushes only the specified platform manifest of a multi-platform image \
                            index.\nOther components, like attestations, will not be included.\nTo push the complete \
                            multi-platform image, remove the *--platform* flag.\n";

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let wanted = args.string("platform");
    let platform = platform::optional(Some(&wanted))
        .map_err(|error| CliError::new(format!("Invalid platform {wanted}{error}")))?;
    if platform.is_some() {
        note::print(app.printer, note::Target::Stdout, ONE_PLATFORM);
    }
    let (all, quiet) = (args.switch("all-tags"), args.switch("quiet"));
    let image = named(app, &args.positionals[0], all, quiet)?;
    content_trust::refuse(args)?;
    give(app, &image, platform, quiet).await?;
    if quiet {
        app.printer.line(&image.to_string());
    }
    Ok(0)
}

/// Gives an image, or all of a repository when it has no tag; answers the digest of the manifest that the registry was
/// given last.
///
/// # Errors
/// Those of the daemon and of the registry.
pub async fn give(
    app: &App,
    image: &Reference,
    platform: Option<Platform>,
    quiet: bool,
) -> Result<Option<String>> {
    let client = app.client()?;
    let options = PushOptions {
        repository: image.name(),
        tag: image.tag().unwrap_or_default().to_owned(),
        platform,
        registry_auth: String::new(),
    };
    let messages = privileged(app, image.domain(), "push", |registry_auth| {
        let options = PushOptions {
            registry_auth,
            ..options.clone()
        };
        async move { client.image_push(&options).await }
    })
    .await?;
    let target = if quiet { Target::Quiet } else { Target::Stdout };
    let (mut notes, mut digest) = (Vec::new(), None);
    let shown = progress::show_with(messages, target, app.printer, |aux| {
        notes.extend(note_of(aux).filter(|_| !quiet));
        digest = aux["Digest"].as_str().map(str::to_owned).or(digest.take());
    })
    .await;
    for text in notes {
        app.printer.out("\n");
        note::print(app.printer, note::Target::Stdout, &text);
    }
    shown?;
    Ok(digest)
}

/// What a daemon that keeps images of several platforms wants to be told besides progress.
fn note_of(aux: &Value) -> Option<String> {
    if aux["manifestPushedInsteadOfIndex"] == true {
        let digest = |key: &str| aux[key]["digest"].as_str().unwrap_or_default().to_owned();
        return Some(format!(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
            digest("originalIndex"),
            digest("selectedManifest")
        ));
    }
    (aux["contentMissing"] == true).then(|| {
        "You're trying to push a manifest list/index which\nreferences multiple platform specific manifests, but not \
         all of them are available locally\nor available to the remote repository.\n\nMake sure you have all the \
         referenced content and try again.\n\nYou can also push only a single platform specific manifest directly by \
         specifying the platform you want to push with the --platform flag."
            .to_owned()
    })
}
