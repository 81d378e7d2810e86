//! `network`: verbs about networks.

use crate::command::Command;

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ipam;
pub mod ls;
pub mod prune;
pub mod rm;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &connect::COMMAND,
    &create::COMMAND,
    &disconnect::COMMAND,
    &inspect::COMMAND,
    &ls::COMMAND,
    &prune::COMMAND,
    &rm::COMMAND,
];
