//! `container create`: make a new container; and what `run` shares with it.

use cais_client::{Client, ClientError};
use cais_types::api::ContainerCreateResponse;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::container_spec::flags::CONTAINER_FLAGS;
use crate::container_spec::{self, Spec};
use crate::error::{CliError, Result};
use crate::progress;

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: Some("create"),
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    aliases: &["container create", "create"],
    arguments: Arguments::AtLeast(1),
    flags: &[CONTAINER_FLAGS],
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
    let spec = container_spec::parse(app, &call.args).map_err(usage)?;
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
    let some =
        |text: &'static str, value: &String| (!value.is_empty()).then(|| (text, value.clone()));
    let name = some("name", &spec.name).map(|(_, value)| value);
    let platform = some("platform", &spec.platform).map(|(_, value)| value);
    if spec.pull == "always" {
        pull(app, client, spec, quiet).await?;
    }
    let attempt = || client.container_create(name.as_deref(), platform.as_deref(), &spec.request);
    let created = match attempt().await {
        Err(error) if spec.pull == "missing" && is_missing_image(&error) => {
            if !quiet {
                let image = with_tag(&spec.request.config.image);
                app.printer
                    .err_line(&format!("Unable to find image '{image}' locally"));
            }
            pull(app, client, spec, quiet).await?;
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
    error.is_not_found()
        && error
            .daemon_message()
            .is_some_and(|message| message.contains("No such image"))
}

async fn pull(app: &App, client: &Client, spec: &Spec, quiet: bool) -> Result<()> {
    let image = with_tag(&spec.request.config.image);
    let (name, tag) = split_tag(&image);
    let platform = (!spec.platform.is_empty()).then_some(spec.platform.as_str());
    let messages = client.image_pull(name, tag, platform, None).await?;
    let target = if quiet {
        progress::Target::Quiet
    } else {
        progress::Target::Stderr
    };
    progress::show(messages, target, app.printer).await
}

/// Name, and tag or digest.
fn split_tag(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    }
}

fn with_tag(image: &str) -> String {
    match split_tag(image) {
        (name, "") => format!("{name}:latest"),
        _ => image.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_are_found_behind_ports() {
        assert_eq!(with_tag("busybox"), "busybox:latest");
        assert_eq!(with_tag("host:5000/a"), "host:5000/a:latest");
        assert_eq!(split_tag("host:5000/a:1"), ("host:5000/a", "1"));
        assert_eq!(split_tag("a@sha256:0"), ("a", "sha256:0"));
    }
}
