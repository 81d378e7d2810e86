//! All verbs, and what several of them share.

use std::future::Future;

use crate::app::App;
use crate::command::{Command, Group};
use crate::error::{CliError, Result};

pub mod container;

/// Nouns with verbs below them.
pub const GROUPS: &[Group] = &[Group {
    name: "container",
    about: "Manage containers",
    commands: container::COMMANDS,
    listed: true,
}];

/// Verbs that are called without a noun.
pub const TOP: &[&Command] = &[
    &container::attach::COMMAND,
    &container::cp::COMMAND,
    &container::create::COMMAND,
    &container::diff::COMMAND,
    &container::exec::COMMAND,
    &container::export::COMMAND,
    &container::kill::COMMAND,
    &container::logs::COMMAND,
    &container::pause::COMMAND,
    &container::port::COMMAND,
    &container::ls::COMMAND,
    &container::rename::COMMAND,
    &container::restart::COMMAND,
    &container::rm::COMMAND,
    &container::run::COMMAND,
    &container::start::COMMAND,
    &container::stop::COMMAND,
    &container::top::COMMAND,
    &container::unpause::COMMAND,
    &container::update::COMMAND,
    &container::wait::COMMAND,
];

/// Verbs that lead the top-level help, in this order.
pub const COMMON: &[&str] = &[
    "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version",
    "info",
];

/// Does something to each name, one after the other: prints the line it gives, tells what failed, and exits 1 if
/// anything did.
///
/// # Errors
/// The failures, one a line.
pub async fn each<'a, F: Future<Output = Result<Option<String>>>>(
    app: &App,
    names: &'a [String],
    mut act: impl FnMut(&'a str) -> F,
) -> Result {
    let mut failures = Vec::new();
    for name in names {
        match act(name).await {
            Ok(Some(line)) => app.printer.line(&line),
            Ok(None) => {}
            Err(error) => failures.push(error.message),
        }
    }
    if failures.is_empty() {
        return Ok(0);
    }
    Err(CliError::new(failures.join("\n")))
}

/// Checks one `--filter`.
///
/// # Errors
/// It is no `key=value`.
pub fn check_filter(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}
