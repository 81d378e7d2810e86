//! `container attach`: join the streams of a running container.

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
    name: "attach",
    other_names: &[],
    top: Some("attach"),
    about: "Attach standard input, output, and error to a running container",
    usage: "[OPTIONS] CONTAINER",
    aliases: &["container attach", "attach"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "detach-keys",
        "string",
        "Key sequence that detaches from the container",
    ),
    switch("no-stdin", "Do not attach STDIN"),
    switch("sig-proxy", "Pass signals on to the process").default("true"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let container = client
        .container_inspect(&call.args.positionals[0], false)
        .await?
        .decode()?;
    let state = &container.state;
    if !state.running {
        return Err(CliError::new(
            "You cannot attach to a stopped container, start it first",
        ));
    }
    if state.paused {
        return Err(CliError::new(
            "You cannot attach to a paused container, unpause it first",
        ));
    }
    if state.restarting {
        return Err(CliError::new(
            "You cannot attach to a restarting container, wait until it is running",
        ));
    }
    let config = &container.config;
    let stdin = config.open_stdin && !call.args.switch("no-stdin");
    if stdin && config.tty && !terminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let keys = app.detach_keys(call.args.value("detach-keys"));
    let detach = terminal::detach_sequence(&keys).map_err(CliError::new)?;
    let options = AttachOptions {
        stream: true,
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: keys,
    };
    let proxy = call.args.switch_or("sig-proxy", true) && !config.tty;
    let proxy = if proxy { Some(Proxy::new()?) } else { None };
    let id = container.id.as_str();
    let (stream, waiting) = tokio::try_join!(
        client.container_attach(id, &options),
        client.container_wait(id, "")
    )?;
    if config.tty
        && let Some((height, width)) = terminal::size(&std::io::stdout())
    {
        // A size that differs for a moment makes the program inside draw itself again.
        drop(client.container_resize(id, height + 1, width + 1).await);
    }
    let joining = Joining {
        tty: config.tty,
        stdin,
        output: true,
        detach: config.tty.then_some(detach),
    };
    let main = Box::pin(async {
        match join_terminal(app, client, Resized::Container(id), stream, joining).await? {
            Ended::Detached => Err(CliError::new("read escape sequence")),
            Ended::Closed => exit_code(waiting).await,
        }
    });
    match proxy {
        Some(proxy) => beside(main, proxy.run(client, id, app.printer)).await,
        None => main.await,
    }
}
