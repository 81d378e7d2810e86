//! Docker Content Trust, which is not built: asking for it says so, so that nobody takes an image for verified.

use crate::app::env;
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, parse_bool, switch};

/// The flag of verbs that get images.
pub const VERIFY: &[Flag] =
    &[switch("disable-content-trust", "Skip image verification").default("true")];

/// The flag of verbs that give images.
pub const SIGN: &[Flag] = &[switch("disable-content-trust", "Skip image signing").default("true")];

/// Refuses to go on when signatures are asked for, by flag or by environment.
///
/// # Errors
/// They are.
pub fn refuse(args: &Parsed) -> Result<()> {
    let wanted = env("DOCKER_CONTENT_TRUST").is_some_and(|text| parse_bool(&text).unwrap_or(true));
    if args.switch_or("disable-content-trust", !wanted) {
        return Ok(());
    }
    Err(CliError::new(
        "content trust is not built: go on without signatures by --disable-content-trust",
    ))
}
