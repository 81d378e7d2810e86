//! `container create`: make a new container; and what `run` shares with it.

use std::str::FromStr as _;

use cais_client::{Client, ClientError};
use cais_types::api::ContainerCreateResponse;
use cais_types::reference::{AnyReference, Reference, ReferenceError};

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::content_trust;
use crate::commands::image::pull::pull;
use crate::error::{CliError, Result};
use crate::progress;
use cais_options::Spec;
use cais_options::flags::{CONTAINER_FLAGS, LIMIT_FLAGS};

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: Some("create"),
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    aliases: &["container create", "create"],
    arguments: Arguments::AtLeast(1),
    flags: &[CONTAINER_FLAGS, LIMIT_FLAGS],
    interspersed: false,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let usage = |message: String| {
        let program = &app.program;
        CliError::with_code(
            125,
            format!("{program}: {message}\n\nRun '{program} create --help' for more information"),
        )
    };
    let spec = cais_options::parse(&call.args, app.proxies()).map_err(usage)?;
    content_trust::refuse(&call.args)?;
    let quiet = call.args.switch("quiet");
    let created = create(app, app.client()?, &spec, quiet).await?;
    app.printer.line(&created.id);
    Ok(0)
}

/// Creates a container: pulls the image when it has to, writes the id file, prints warnings.
///
/// # Errors
/// An id file that is there already, a failed pull, or the daemon's refusal.
pub async fn create(
    app: &App,
    client: &Client,
    spec: &Spec,
    quiet: bool,
) -> Result<ContainerCreateResponse> {
    let cidfile = IdFile::check(&spec.cidfile)?;
    AnyReference::from_str(&spec.request.config.image).map_err(invalid)?;
    let some =
        |text: &'static str, value: &String| (!value.is_empty()).then(|| (text, value.clone()));
    let name = some("name", &spec.name).map(|(_, value)| value);
    let platform = some("platform", &spec.platform).map(|(_, value)| value);
    if spec.pull == "always" {
        pull_missing(app, spec, quiet).await?;
    }
    let attempt = || client.container_create(name.as_deref(), platform.as_deref(), &spec.request);
    let created = match attempt().await {
        Err(error) if spec.pull == "missing" && is_missing_image(&error) => {
            if !quiet {
                let image: Reference = spec.request.config.image.parse().map_err(invalid)?;
                let image = image.with_default_tag().familiar();
                app.printer
                    .err_line(&format!("Unable to find image '{image}' locally"));
            }
            pull_missing(app, spec, quiet).await?;
            attempt().await?
        }
        result => result?,
    };
    for warning in &created.warnings {
        app.printer.err_line(&format!("WARNING: {warning}"));
    }
    cidfile.write(&created.id)?;
    Ok(created)
}

fn is_missing_image(error: &ClientError) -> bool {
    const TEXTS: [&str; 3] = [
        "No such image",
        "does not match the specified platform",
        "does not provide the specified platform",
    ];
    let message = error.daemon_message().unwrap_or_default();
    error.is_not_found() && TEXTS.iter().any(|text| message.contains(text))
}

async fn pull_missing(app: &App, spec: &Spec, quiet: bool) -> Result<()> {
    let image: Reference = spec.request.config.image.parse().map_err(invalid)?;
    let target = if quiet {
        progress::Target::Quiet
    } else {
        progress::Target::Stderr
    };
    pull(app, &image.with_default_tag(), &spec.platform, target).await
}

fn invalid(error: ReferenceError) -> CliError {
    CliError::new(error.to_string())
}

/// The file that gets the id: it must not be there before.
struct IdFile<'a>(&'a str);

impl<'a> IdFile<'a> {
    fn check(path: &'a str) -> Result<Self> {
        if !path.is_empty() && std::fs::metadata(path).is_ok() {
            return Err(CliError::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        Ok(Self(path))
    }

    fn write(&self, id: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        std::fs::write(self.0, id).map_err(|error| {
            CliError::new(format!(
                "failed to write the container ID to the file: {error}"
            ))
        })
    }
}
