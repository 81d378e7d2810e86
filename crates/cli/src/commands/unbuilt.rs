//! Verbs of Docker's command line that are not built yet: calling one says so.

use crate::error::CliError;

/// The nouns and verbs, as they are typed.
const UNBUILT: &[&str] = &[
    "bake",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "context export",
    "context import",
    "node",
    "plugin",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
    "volume update",
];

/// The error for words that name such a verb; `None` for words nobody knows.
pub fn error(program: &str, words: &str) -> Option<CliError> {
    UNBUILT
        .contains(&words)
        .then(|| CliError::new(format!("{program}: '{words}' is not built yet")))
}
