//! `container diff`: show what changed in a container's filesystem.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "diff",
    other_names: &[],
    top: Some("diff"),
    about: "Show what changed in a container's filesystem",
    usage: "CONTAINER",
    aliases: &["container diff", "diff"],
    arguments: Arguments::Exact(1),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let changes = app
        .client()?
        .container_changes(&call.args.positionals[0])
        .await?;
    let mut text = String::new();
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => "C",
            1 => "A",
            2 => "D",
            _ => continue,
        };
        text.push_str(kind);
        text.push(' ');
        text.push_str(&change.path);
        text.push('\n');
    }
    app.printer.out(&text);
    Ok(0)
}
