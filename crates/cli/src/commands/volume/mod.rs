//! `volume`: verbs about volumes.

use crate::command::Command;

pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &create::COMMAND,
    &inspect::COMMAND,
    &ls::COMMAND,
    &prune::COMMAND,
    &rm::COMMAND,
];
