//! The command line: same verbs, flags, texts and exit codes as `docker` 28. It knows the Engine API's client, and nothing
//! of the engine.
//!
//! # Adding a verb
//! 1. Make `commands/<noun>/<verb>.rs` with a `pub const COMMAND: Command` (name, usage, about, aliases, arguments, flags)
//!    and `async fn run(app: &App, call: Invocation) -> Result` beside it; `COMMAND.run` is
//!    `|app, call| Box::pin(run(app, call))`. The flag table is a `const FLAGS: &[Flag]` of [`cais_console::flags::flag`] and
//!    [`cais_console::flags::switch`]; shared tables are listed together: `flags: &[FLAGS, OTHER]`.
//! 2. Name the command in its noun's `mod.rs` list. `top: Some("ps")` makes it callable without the noun; it then also
//!    has to stand in [`commands::TOP`]. A new noun gets a [`command::Group`] in [`commands::GROUPS`].
//! 3. Talk to the daemon through `app.client()?` only. `ClientError` turns into a [`cais_console::error::CliError`] with exit code 1 by `?`;
//!    other codes by [`cais_console::error::CliError::with_code`].
//! 4. Print through `app.printer` only. Tables and `--format` go through [`cais_console::format::Listing`]; a verb gives it its
//!    columns and its rows. `inspect`-like verbs use [`cais_console::format::inspect`] on raw answers.
//! 5. A verb that works on several names uses [`commands::each`], which prints what worked, tells what did not, and
//!    exits 1.
//!
//! Only the verb that is called costs anything: the tables are constants and nothing is built at start.

pub mod app;
pub mod autostart;
pub mod command;
pub mod commands;
pub mod context_store;
mod dispatch;
mod help;
pub mod registry_access;

use std::ffi::OsString;

pub use autostart::SpawnCommand;
use cais_console::{
    archive, cell, error, flags, format, new_file, note, platform, printer, progress, prompt,
    signals, stdin, steps, streams, table, terminal, timestamp,
};

/// Runs the command line with `argv` (the program's name first) and returns its exit code. No daemon is started.
pub fn main(argv: Vec<OsString>) -> i32 {
    dispatch::run(argv, None)
}

/// [`main`] that starts a daemon by this command when nobody said where one is and none listens at the default socket.
pub fn main_with_daemon(argv: Vec<OsString>, spawn: SpawnCommand) -> i32 {
    dispatch::run(argv, Some(spawn))
}
