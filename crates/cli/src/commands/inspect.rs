//! `inspect`: show everything the daemon knows about containers, images, networks and volumes, whatever a name is of.

use bytes::Bytes;
use cais_client::{Client, ClientError};

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::inspecting;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "inspect",
    other_names: &[],
    top: Some("inspect"),
    about: "Show everything the daemon knows about named things",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    aliases: &[],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("format", "string", "Output as 'json', or by a Go template").short('f'),
    switch("size", "Show file sizes of containers").short('s'),
    flag("type", "string", "Look only among things of this type"),
];

/// Types that can be asked for, in the order they are tried.
const TYPES: &[&str] = &["container", "image", "network", "volume"];

/// Types that `--type` accepts, as Docker lists them; those that are not in [`TYPES`] are not built yet.
const KNOWN: &[&str] = &[
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let kind = call.args.string("type");
    let size = call.args.switch("size");
    check(&kind)?;
    let format = call.args.string("format");
    let kind = kind.as_str();
    inspecting::inspect(app, &format, &call.args.positionals, |name| async move {
        if name.is_empty() {
            return Err(CliError::new(
                "invalid container name or ID: value is empty",
            ));
        }
        let (kind, raw) = find(client, kind, name, size).await?;
        if size && kind != "container" {
            app.printer
                .err_line(&format!("WARNING: --size ignored for {kind}"));
        }
        Ok(raw)
    })
    .await
}

fn check(kind: &str) -> Result<()> {
    if kind.is_empty() || TYPES.contains(&kind) {
        return Ok(());
    }
    if KNOWN.contains(&kind) {
        return Err(CliError::new(format!(
            "inspecting a {kind} is not built yet"
        )));
    }
    let known: Vec<String> = KNOWN.iter().map(|kind| format!("{kind:?}")).collect();
    Err(CliError::new(format!(
        "unknown type: {kind:?}: must be one of {}",
        known.join(", ")
    )))
}

/// The first thing of that name, and its type.
async fn find(
    client: &Client,
    kind: &str,
    name: &str,
    size: bool,
) -> Result<(&'static str, Bytes)> {
    for &candidate in TYPES {
        if !kind.is_empty() && kind != candidate {
            continue;
        }
        match get(client, candidate, name, size).await {
            Ok(raw) => return Ok((candidate, raw)),
            Err(error) if kind.is_empty() && error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CliError::new(format!("Error: No such object: {name}")))
}

async fn get(
    client: &Client,
    kind: &str,
    name: &str,
    size: bool,
) -> std::result::Result<Bytes, ClientError> {
    Ok(match kind {
        "container" => client.container_inspect(name, size).await?.raw().clone(),
        "image" => client.image_inspect(name, None).await?.raw().clone(),
        "network" => client.network_inspect(name, false).await?.raw().clone(),
        _ => client.volume_inspect(name).await?.raw().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        assert!(check("").is_ok() && check("image").is_ok());
        assert_eq!(
            check("foo").unwrap_err().message,
            "unknown type: \"foo\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \
             \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
        );
        assert_eq!(
            check("plugin").unwrap_err().message,
            "inspecting a plugin is not built yet"
        );
    }
}
