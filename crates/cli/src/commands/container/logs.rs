//! `container logs`: what a container has written.

use cais_client::Demux;
use cais_client::api::options::LogsOptions;
use cais_types::Framing;
use futures_util::StreamExt as _;
use jiff::Timestamp;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::streams::write_frames;
use crate::timestamp;

/// The verb.
pub const COMMAND: Command = Command {
    name: "logs",
    other_names: &[],
    top: Some("logs"),
    about: "Show the logs of a container",
    usage: "[OPTIONS] CONTAINER",
    aliases: &["container logs", "logs"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("details", "Show attributes given to the log"),
    switch("follow", "Go on with new lines").short('f'),
    flag(
        "since",
        "string",
        "Show lines since a time (\"2013-01-02T13:23:37Z\") or for a while (\"42m\")",
    ),
    flag("tail", "string", "Number of lines to show from the end")
        .short('n')
        .default("\"all\""),
    switch("timestamps", "Show the time of each line").short('t'),
    flag(
        "until",
        "string",
        "Show lines before a time (\"2013-01-02T13:23:37Z\") or until a while ago (\"42m\")",
    ),
];

/// From this API on the content type tells how a log is laid out.
const TELLS_FRAMING: u16 = 42;

async fn run(app: &App, call: Invocation) -> Result {
    let name = &call.args.positionals[0];
    let now = Timestamp::now();
    let time = |flag: &str| {
        timestamp::parse(&call.args.string(flag), now)
            .map_err(|error| CliError::new(format!("invalid value for \"{flag}\": {error}")))
    };
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        follow: call.args.switch("follow"),
        timestamps: call.args.switch("timestamps"),
        details: call.args.switch("details"),
        since: time("since")?,
        until: time("until")?,
        tail: call.args.value("tail").unwrap_or("all").to_owned(),
    };
    let client = app.client()?;
    let log = client.container_logs(name, &options).await?;
    let framed = match log.framing {
        Some(framing) => framing == Framing::Multiplexed,
        None if client.api_minor() >= TELLS_FRAMING => false,
        None => {
            !client
                .container_inspect(name, false)
                .await?
                .decode()?
                .config
                .tty
        }
    };
    let mut bytes = log.bytes;
    let mut demux = Demux::new();
    while let Some(piece) = bytes.next().await {
        let piece = piece?;
        if framed {
            write_frames(&mut demux, &piece, app.printer)?;
        } else {
            app.printer.out_bytes(&piece)?;
        }
    }
    Ok(0)
}
