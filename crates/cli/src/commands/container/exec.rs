//! `container exec`: run another command in a running container.

use cais_types::api::{ExecCreateRequest, ExecStartRequest};

use super::run::join_terminal;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::signals::Resized;
use crate::streams::{Ended, Joining};
use crate::terminal;
use cais_options::env;

/// The verb.
pub const COMMAND: Command = Command {
    name: "exec",
    other_names: &[],
    top: Some("exec"),
    about: "Execute a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    aliases: &["container exec", "exec"],
    arguments: Arguments::AtLeast(2),
    flags: &[FLAGS],
    interspersed: false,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("detach", "Run the command in the background").short('d'),
    flag(
        "detach-keys",
        "string",
        "Key sequence that detaches from the command",
    ),
    flag("env", "list", "Set environment variables")
        .short('e')
        .check(env::check),
    flag("env-file", "list", "Read environment variables from a file"),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    switch("privileged", "Give all privileges to the command"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    flag(
        "user",
        "string",
        "User name or UID (<name|uid>[:<group|gid>])",
    )
    .short('u'),
    flag(
        "workdir",
        "string",
        "Working directory inside the container",
    )
    .short('w'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let (detach, tty) = (args.switch("detach"), args.switch("tty"));
    let stdin = args.switch("interactive") && !detach;
    let keys = app.detach_keys(args.value("detach-keys"));
    let sequence = terminal::detach_sequence(&keys).map_err(CliError::new)?;
    if stdin && tty && !terminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let console_size = match terminal::size(&std::io::stdout()) {
        Some((height, width)) if tty => Some([height.into(), width.into()]),
        _ => None,
    };
    let request = ExecCreateRequest {
        user: args.string("user"),
        privileged: args.switch("privileged"),
        tty,
        console_size,
        attach_stdin: stdin,
        attach_stderr: !detach,
        attach_stdout: !detach,
        detach_keys: keys,
        env: env::environment(&args.list("env-file"), &args.list("env")).map_err(CliError::new)?,
        working_dir: args.string("workdir"),
        cmd: args.positionals[1..].to_vec(),
    };
    let client = app.client()?;
    let id = client.exec_create(&args.positionals[0], &request).await?.id;
    let start = ExecStartRequest {
        detach,
        tty,
        console_size,
    };
    if detach {
        client.exec_start(&id, &start).await?;
        return Ok(0);
    }
    let stream = client.exec_attach(&id, &start).await?;
    let joining = Joining {
        tty,
        stdin,
        output: true,
        detach: (tty && stdin).then_some(sequence),
    };
    if join_terminal(app, client, Resized::Exec(&id), stream, joining).await? == Ended::Detached {
        return Err(CliError::new("read escape sequence"));
    }
    let ended = client.exec_inspect(&id).await?;
    Ok(i32::try_from(ended.exit_code.unwrap_or(0)).unwrap_or(1))
}
