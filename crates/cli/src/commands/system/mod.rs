//! `system`: verbs about the daemon itself.

use crate::command::Command;

pub mod check;
pub mod client_facts;
pub mod df;
mod df_verbose;
pub mod events;
pub mod info;
mod info_text;
pub mod prune;
pub mod version;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &check::COMMAND,
    &df::COMMAND,
    &events::COMMAND,
    &info::COMMAND,
    &prune::COMMAND,
];
