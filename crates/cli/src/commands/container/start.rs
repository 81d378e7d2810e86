//! `container start`: start stopped containers, attached if asked.

use cais_client::Client;
use cais_client::api::options::AttachOptions;

use super::run::{exit_code, join_terminal};
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::signals::{Proxy, Resized, beside};
use crate::streams::{Ended, Joining};
use crate::terminal;

/// The verb.
pub const COMMAND: Command = Command {
    name: "start",
    other_names: &[],
    top: Some("start"),
    about: "Start one or more stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container start", "start"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("attach", "Attach STDOUT and STDERR, and pass signals on").short('a'),
    flag("checkpoint", "string", "Restore from this checkpoint").hidden(),
    flag("checkpoint-dir", "string", "Where checkpoints are kept").hidden(),
    flag(
        "detach-keys",
        "string",
        "Key sequence that detaches from the container",
    ),
    switch("interactive", "Attach the container's STDIN").short('i'),
];

async fn run(app: &App, call: Invocation) -> Result {
    if call.args.changed("checkpoint") {
        return Err(CliError::new("checkpoints are not supported yet"));
    }
    let client = app.client()?;
    let names = &call.args.positionals;
    if !call.args.switch("attach") && !call.args.switch("interactive") {
        return start_all(app, client, names).await;
    }
    match names.as_slice() {
        [name] => Box::pin(attached(app, client, &call, name)).await,
        _ => Err(CliError::new(
            "you cannot start and attach multiple containers at once",
        )),
    }
}

async fn start_all(app: &App, client: &Client, names: &[String]) -> Result {
    let mut failed = Vec::new();
    for name in names {
        match client.container_start(name, None).await {
            Ok(_) => app.printer.line(name),
            Err(error) => {
                app.printer.err_line(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(CliError::new(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

async fn attached(app: &App, client: &Client, call: &Invocation, name: &str) -> Result {
    let container = client.container_inspect(name, false).await?.decode()?;
    let config = &container.config;
    let keys = app.detach_keys(call.args.value("detach-keys"));
    let detach = terminal::detach_sequence(&keys).map_err(CliError::new)?;
    let stdin = call.args.switch("interactive") && config.open_stdin;
    let options = AttachOptions {
        stream: true,
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: keys,
    };
    let proxy = if config.tty {
        None
    } else {
        Some(Proxy::new()?)
    };
    let condition = if container.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let id = container.id.as_str();
    let (stream, waiting) = tokio::try_join!(
        client.container_attach(id, &options),
        client.container_wait(id, condition)
    )?;
    client.container_start(id, None).await?;
    let joining = Joining {
        tty: config.tty,
        stdin,
        output: true,
        detach: config.tty.then_some(detach),
    };
    let main = Box::pin(async {
        match join_terminal(app, client, Resized::Container(id), stream, joining).await? {
            Ended::Detached => Ok(0),
            Ended::Closed => exit_code(waiting).await,
        }
    });
    match proxy {
        Some(proxy) => beside(main, proxy.run(client, id, app.printer)).await,
        None => main.await,
    }
}
