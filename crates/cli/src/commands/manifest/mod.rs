//! `manifest`: verbs about manifests and lists of them. They ask registries themselves; no daemon has a part in it.

use crate::command::Command;

pub mod annotate;
pub mod create;
pub mod inspect;
pub mod push;
pub mod rm;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &annotate::COMMAND,
    &create::COMMAND,
    &inspect::COMMAND,
    &push::COMMAND,
    &rm::COMMAND,
];
