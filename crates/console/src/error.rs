//! How a verb fails: what goes to standard error, and the exit code.

use cais_client::ClientError;

/// What a shell answers for a program that SIGPIPE has ended.
const BROKEN_PIPE: i32 = 128 + 13;

/// A failed verb.
#[derive(Debug)]
pub struct CliError {
    /// Printed as it is, with a line end; empty prints nothing.
    pub message: String,
    /// Exit code.
    pub code: i32,
    /// The client's error behind it, if that is what failed.
    pub source: Option<ClientError>,
}

/// Result of a verb: its exit code, or a failure.
pub type Result<T = i32> = std::result::Result<T, CliError>;

impl CliError {
    /// Exit code 1 with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(1, message)
    }

    /// Another exit code.
    pub fn with_code(code: i32, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code,
            source: None,
        }
    }

    /// Exits without a word: everything has been said.
    pub fn silent(code: i32) -> Self {
        Self::with_code(code, "")
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
            source: Some(error),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Quietly, as docker ends: by SIGPIPE.
            std::io::ErrorKind::BrokenPipe => Self::silent(BROKEN_PIPE),
            _ => Self::new(cais_types::error::plain(&error)),
        }
    }
}
