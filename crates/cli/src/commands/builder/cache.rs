//! `builder cache`: the files of a cache mount as an archive, and back.

use std::path::Path;

use futures_util::StreamExt as _;

use crate::app::App;
use crate::archive;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::new_file::NewFile;
use crate::terminal;

/// The verb.
pub const COMMAND: Command = Command {
    name: "cache",
    other_names: &[],
    top: None,
    about: "Write a cache mount to a tar archive, or fill it from one",
    usage: "export|import ID FILE|-",
    aliases: &[],
    arguments: Arguments::Exact(3),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let [verb, id, file] = &call.args.positionals[..] else {
        return Err(CliError::new("\"cache\" requires exactly 3 arguments."));
    };
    let client = app.client()?;
    client.negotiate().await?;
    if !client.is_cais() {
        return Err(CliError::new(
            "this daemon does not let cache mounts be exported or imported",
        ));
    }
    match verb.as_str() {
        "export" => export(app, id, file).await?,
        "import" => {
            let body = archive::source(file)?;
            client.build_cache_import(id, body).await?;
        }
        other => {
            return Err(CliError::new(format!(
                "unknown verb {other:?}: export or import"
            )));
        }
    }
    Ok(0)
}

async fn export(app: &App, id: &str, file: &str) -> Result<()> {
    if file == "-" && terminal::is_terminal(&std::io::stdout()) {
        return Err(CliError::new(
            "cowardly refusing to export to a terminal: name a file or redirect",
        ));
    }
    let mut pieces = app.client()?.build_cache_export(id).await?;
    let mut to = match file {
        "-" => None,
        path => Some(NewFile::create(Path::new(path))?),
    };
    while let Some(piece) = pieces.next().await {
        match &mut to {
            None => app.printer.out_bytes(&piece?)?,
            Some(to) => to.write_all(&piece?)?,
        }
    }
    Ok(to.map_or(Ok(()), NewFile::keep)?)
}
