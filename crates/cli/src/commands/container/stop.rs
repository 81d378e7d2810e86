//! `container stop`: stop one or more running containers.

use cais_client::api::options::StopOptions;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::Result;
use crate::flags::{Flag, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "stop",
    other_names: &[],
    top: Some("stop"),
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container stop", "stop"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("signal", "string", "Signal to send to the container").short('s'),
    flag("time", "int", "Seconds to wait before it is killed")
        .hidden()
        .same_as("timeout"),
    flag("timeout", "int", "Seconds to wait before it is killed").short('t'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let client = app.client()?;
    let options = StopOptions {
        signal: call.args.value("signal").map(str::to_owned),
        timeout: call
            .args
            .changed("timeout")
            .then(|| call.args.int("timeout", 0)),
    };
    let options = &options;
    each(app, &call.args.positionals, |name| async move {
        client.container_stop(name, options).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
