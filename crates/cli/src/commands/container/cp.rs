//! `container cp`: copy files between a container and the local filesystem.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::CliError;
use crate::error::Result;
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "cp",
    other_names: &[],
    top: Some("cp"),
    about: "Copy files between a container and the local filesystem",
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t{path} [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    aliases: &["container cp", "cp"],
    arguments: Arguments::Exact(2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("archive", "Archive mode (copy owner and group)").short('a'),
    switch("follow-link", "Follow symbolic links in SRC_PATH").short('L'),
    switch("quiet", "Suppress progress output").short('q'),
];

#[expect(clippy::unused_async, reason = "verbs are asynchronous")]
async fn run(_app: &App, _call: Invocation) -> Result {
    Err(CliError::new(
        "copying files is not supported yet; use exec with tar, or a bind mount",
    ))
}
