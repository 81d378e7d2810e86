//! `container run`: create a container, attach to it, start it, wait for it. Four requests, no polling.

use cais_client::api::options::AttachOptions;
use cais_client::api::streams::Waiting;
use cais_client::{Client, Hijacked};

use super::create::create;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::content_trust;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::signals::{self, Proxy, Resized, beside};
use crate::streams::{self, Ended, Joining};
use crate::terminal::{self, RawMode};
use cais_options::Spec;
use cais_options::flags::{CONTAINER_FLAGS, LIMIT_FLAGS};

/// The verb.
pub const COMMAND: Command = Command {
    name: "run",
    other_names: &[],
    top: Some("run"),
    about: "Create and run a new container from an image",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    aliases: &["container run", "run"],
    arguments: Arguments::AtLeast(1),
    flags: &[CONTAINER_FLAGS, LIMIT_FLAGS, FLAGS],
    interspersed: false,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("detach", "Run in the background and print the container ID").short('d'),
    flag(
        "detach-keys",
        "string",
        "Key sequence that detaches from the container",
    ),
    switch("sig-proxy", "Pass signals on to the process").default("true"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let mut spec = cais_options::parse(&call.args, app.proxies())
        .map_err(|message| failed(app, 125, &message))?;
    let detach = call.args.switch("detach");
    let config = &mut spec.request.config;
    if detach {
        if call.args.changed("attach") {
            return Err(CliError::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        config.attach_stdin = false;
        config.attach_stdout = false;
        config.attach_stderr = false;
        config.stdin_once = false;
    } else if config.attach_stdin && config.tty && !terminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new("the input device is not a TTY"));
    }
    content_trust::refuse(&call.args).map_err(|error| failed(app, 125, &error.message))?;
    let client = app.client()?;
    let created = create(app, client, &spec, call.args.switch("quiet"))
        .await
        .map_err(|error| failed(app, 125, &error.message))?;
    let foreground = Foreground {
        app,
        client,
        id: &created.id,
        spec: &spec,
        keys: app.detach_keys(call.args.value("detach-keys")),
    };
    if detach {
        foreground.start().await?;
        app.printer.line(&created.id);
        return Ok(0);
    }
    foreground.run(call.args.switch_or("sig-proxy", true)).await
}

/// A failure as `run` tells it.
fn failed(app: &App, code: i32, message: &str) -> CliError {
    let program = &app.program;
    CliError::with_code(
        code,
        format!("{program}: {message}\n\nRun '{program} run --help' for more information"),
    )
}

/// The exit code of a container that did not start, by the daemon's words, as scripts know it from Docker.
fn start_code(message: &str) -> i32 {
    const NOT_FOUND: [&str; 3] = [
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ];
    if NOT_FOUND.iter().any(|text| message.contains(text)) {
        return 127;
    }
    if message.contains("permission denied") || message.contains("is a directory") {
        return 126;
    }
    125
}

struct Foreground<'a> {
    app: &'a App,
    client: &'a Client,
    id: &'a str,
    spec: &'a Spec,
    keys: String,
}

impl Foreground<'_> {
    async fn start(&self) -> Result<()> {
        let started = self.client.container_start(self.id, None).await;
        started.map(drop).map_err(|error| {
            let message = error.to_string();
            failed(self.app, start_code(&message), &message)
        })
    }

    async fn run(&self, proxy: bool) -> Result {
        let config = &self.spec.request.config;
        let attached = config.attach_stdin || config.attach_stdout || config.attach_stderr;
        // With a terminal the keys themselves make signals.
        let proxy = if proxy && !config.tty {
            Some(Proxy::new()?)
        } else {
            None
        };
        let detach =
            terminal::detach_sequence(&self.keys).map_err(|error| failed(self.app, 125, &error))?;
        let removed = self.spec.request.host_config.auto_remove;
        let condition = if removed { "removed" } else { "next-exit" };
        // Both have to be in place before the start, so that no output and no exit is missed.
        let (stream, waiting) = if attached {
            let (stream, waiting) = tokio::try_join!(
                self.attach(),
                self.client.container_wait(self.id, condition)
            )
            .map_err(|error| failed(self.app, 125, &error.to_string()))?;
            (Some(stream), waiting)
        } else {
            let waiting = self.client.container_wait(self.id, condition).await;
            (
                None,
                waiting.map_err(|error| failed(self.app, 125, &error.to_string()))?,
            )
        };
        if let Err(error) = self.start().await {
            drop(stream);
            if removed {
                // The container is on its way out; what it exits with does not matter any more.
                drop(waiting.answer().await);
            }
            return Err(error);
        }
        let Some(stream) = stream else {
            self.app.printer.line(self.id);
            return Ok(0);
        };
        let main = Box::pin(self.follow(stream, waiting, detach));
        match proxy {
            Some(proxy) => beside(main, proxy.run(self.client, self.id, self.app.printer)).await,
            None => main.await,
        }
    }

    async fn attach(&self) -> cais_client::Result<Hijacked> {
        let config = &self.spec.request.config;
        let options = AttachOptions {
            stream: true,
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            logs: false,
            detach_keys: self.keys.clone(),
        };
        self.client.container_attach(self.id, &options).await
    }

    /// Copies streams until they end, then waits for the exit code.
    async fn follow(&self, stream: Hijacked, waiting: Waiting, detach: Vec<u8>) -> Result {
        let config = &self.spec.request.config;
        let joining = Joining {
            tty: config.tty,
            stdin: config.attach_stdin,
            output: config.attach_stdout || config.attach_stderr,
            detach: config.tty.then_some(detach),
        };
        let ended = join_terminal(
            self.app,
            self.client,
            Resized::Container(self.id),
            stream,
            joining,
        )
        .await?;
        if ended == Ended::Detached {
            return Ok(0);
        }
        exit_code(waiting).await
    }
}

/// Joins streams; with a terminal in raw mode, its size followed, and in good order when told to leave.
///
/// # Errors
/// Those of [`streams::join`]; a silent one when a signal ended it.
pub async fn join_terminal(
    app: &App,
    client: &Client,
    target: Resized<'_>,
    stream: Hijacked,
    joining: Joining,
) -> Result<Ended> {
    let tty = joining.tty;
    let raw = if tty && joining.stdin {
        RawMode::enter()
    } else {
        None
    };
    let join = streams::join(stream, joining, app.printer);
    let ended = if tty {
        let sized = beside(join, signals::follow_size(client, target));
        if raw.is_some() {
            beside(sized, signals::termination()).await
        } else {
            sized.await
        }
    } else {
        join.await
    };
    drop(raw);
    ended
}

/// The exit code a wait ends with.
///
/// # Errors
/// The daemon's reason for having none, with exit code 125.
pub async fn exit_code(waiting: Waiting) -> Result {
    let answer = waiting.answer().await?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(CliError::with_code(
            125,
            format!("Error waiting for container: {}", error.message),
        ));
    }
    Ok(i32::try_from(answer.status_code).unwrap_or(125))
}

#[cfg(test)]
mod tests {
    use super::start_code;

    #[test]
    fn start_failures_have_the_codes_of_a_shell() {
        let cases = [
            (
                "exec: \"nope\": executable file not found in $PATH: unknown",
                127,
            ),
            ("stat /nope: no such file or directory", 127),
            ("exec: \"/etc\": is a directory: unknown", 126),
            ("exec /x: permission denied", 126),
            ("address already in use", 125),
        ];
        for (message, code) in cases {
            assert_eq!(start_code(message), code, "{message}");
        }
    }
}
