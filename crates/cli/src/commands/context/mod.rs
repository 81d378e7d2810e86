//! `context`: verbs about the daemons a user knows.

use crate::command::Command;

pub mod create;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod use_;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &create::COMMAND,
    &inspect::COMMAND,
    &ls::COMMAND,
    &rm::COMMAND,
    &show::COMMAND,
    &update::COMMAND,
    &use_::COMMAND,
];

/// What is told when the environment wins over a context.
const OVERRIDDEN: &str =
    "either set the global --context flag, or unset DOCKER_HOST environment variable.";

/// Whether `DOCKER_HOST` decides which daemon is used.
fn host_overrides() -> bool {
    crate::app::env("DOCKER_HOST").is_some()
}
