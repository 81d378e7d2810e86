//! `image`: verbs about images.

use crate::command::Command;

pub mod build;
pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod tag;
mod tree;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &build::COMMAND,
    &history::COMMAND,
    &import::COMMAND,
    &inspect::COMMAND,
    &load::COMMAND,
    &ls::COMMAND,
    &prune::COMMAND,
    &pull::COMMAND,
    &push::COMMAND,
    &rm::COMMAND,
    &save::COMMAND,
    &tag::COMMAND,
];
