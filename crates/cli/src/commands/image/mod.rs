//! `image`: verbs about images.

use crate::command::Command;

pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod rm;
pub mod save;
pub mod tag;

/// The verbs, by name.
pub const COMMANDS: &[&Command] = &[
    &history::COMMAND,
    &import::COMMAND,
    &inspect::COMMAND,
    &load::COMMAND,
    &ls::COMMAND,
    &prune::COMMAND,
    &rm::COMMAND,
    &save::COMMAND,
    &tag::COMMAND,
];

/// Refuses a flag that chooses among the platforms of an image.
///
/// # Errors
/// The flag was given.
fn refuse_platform(call: &crate::command::Invocation) -> crate::error::Result<()> {
    if call.args.changed("platform") {
        return Err(crate::error::CliError::new(format!(
            "'{} --platform' is not built yet",
            call.path
        )));
    }
    Ok(())
}
