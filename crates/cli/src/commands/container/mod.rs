//! `container`: verbs about containers.

use crate::command::Command;

pub mod attach;
pub mod commit;
pub mod cp;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stats;
mod stats_numbers;
pub mod stop;
mod stopping;
pub mod top;
pub mod unpause;
pub mod update;
pub mod wait;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &attach::COMMAND,
    &commit::COMMAND,
    &cp::COMMAND,
    &create::COMMAND,
    &diff::COMMAND,
    &exec::COMMAND,
    &export::COMMAND,
    &inspect::COMMAND,
    &kill::COMMAND,
    &logs::COMMAND,
    &ls::COMMAND,
    &pause::COMMAND,
    &port::COMMAND,
    &prune::COMMAND,
    &rename::COMMAND,
    &restart::COMMAND,
    &rm::COMMAND,
    &run::COMMAND,
    &start::COMMAND,
    &stats::COMMAND,
    &stop::COMMAND,
    &top::COMMAND,
    &unpause::COMMAND,
    &update::COMMAND,
    &wait::COMMAND,
];
