//! `builder`: verbs about builds.

use crate::command::Command;
use crate::commands::image;

pub mod cache;
pub mod du;
pub mod prune;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &image::build::COMMAND,
    &cache::COMMAND,
    &du::COMMAND,
    &prune::COMMAND,
];
