//! `network disconnect`: take a container off a network.

use cais_types::api::NetworkDisconnectRequest;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "disconnect",
    other_names: &[],
    top: None,
    about: "Take a container off a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    aliases: &[],
    arguments: Arguments::Exact(2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[switch("force", "Take it off whatever happens").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let request = NetworkDisconnectRequest {
        container: call.args.positionals[1].clone(),
        force: call.args.switch("force"),
    };
    app.client()?
        .network_disconnect(&call.args.positionals[0], &request)
        .await?;
    Ok(0)
}
