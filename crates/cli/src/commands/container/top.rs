//! `container top`: show the running processes of a container.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;
use crate::table::align_with;

/// The verb.
pub const COMMAND: Command = Command {
    name: "top",
    other_names: &[],
    top: Some("top"),
    about: "Show the running processes of a container",
    usage: "CONTAINER [ps OPTIONS]",
    aliases: &["container top", "top"],
    arguments: Arguments::AtLeast(1),
    flags: &[],
    interspersed: false,
    run: |app, call| Box::pin(run(app, call)),
};

/// Columns of processes are wider than those of other tables.
const MIN_WIDTH: usize = 20;

async fn run(app: &App, call: Invocation) -> Result {
    let (name, ps) = call
        .args
        .positionals
        .split_first()
        .map_or(("", Vec::new()), |(name, ps)| (name, ps.to_vec()));
    let arguments = (!ps.is_empty()).then(|| ps.join(" "));
    let answer = app
        .client()?
        .container_top(name, arguments.as_deref())
        .await?;
    let mut text = answer.titles.join("\t") + "\n";
    for process in answer.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    app.printer.out(&align_with(&text, MIN_WIDTH));
    Ok(0)
}
