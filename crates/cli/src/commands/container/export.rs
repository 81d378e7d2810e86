//! `container export`: write a container's filesystem as a tar archive.

use std::path::Path;

use futures_util::StreamExt as _;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::CliError;
use crate::error::Result;
use crate::flags::{Flag, flag};
use crate::new_file::NewFile;
use crate::terminal;

/// The verb.
pub const COMMAND: Command = Command {
    name: "export",
    other_names: &[],
    top: Some("export"),
    about: "Write a container's filesystem as a tar archive",
    usage: "[OPTIONS] CONTAINER",
    aliases: &["container export", "export"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[flag("output", "string", "Write to a file, instead of STDOUT").short('o')];

async fn run(app: &App, call: Invocation) -> Result {
    let output = call.args.string("output");
    if output.is_empty() && terminal::is_terminal(&std::io::stdout()) {
        return Err(CliError::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let mut archive = app
        .client()?
        .container_export(&call.args.positionals[0])
        .await?;
    if output.is_empty() {
        while let Some(piece) = archive.next().await {
            app.printer.out_bytes(&piece?)?;
        }
        return Ok(0);
    }
    let failed =
        |error: std::io::Error| CliError::new(format!("failed to export container: {error}"));
    let mut file = NewFile::create(Path::new(&output)).map_err(failed)?;
    while let Some(piece) = archive.next().await {
        file.write_all(&piece?).map_err(failed)?;
    }
    file.keep().map_err(failed)?;
    Ok(0)
}
