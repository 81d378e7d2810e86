//! What a command prints, as messages to the client.

use cais_types::{ContainerId, Result};
use serde_json::json;

use crate::messages::StageLog;
use crate::ports::{RunEvents, Stream};

/// What the runtime says of a program that the kernel knows no way to execute, at the end of a line.
const NOT_EXECUTABLE: &str = "exec format error\n";

/// Passes output on.
pub struct Events<'a> {
    log: &'a StageLog,
    /// Whether the kernel knew no way to execute a program.
    pub not_executable: bool,
}

impl<'a> Events<'a> {
    /// Output that goes to a log.
    pub fn new(log: &'a StageLog) -> Self {
        Self {
            log,
            not_executable: false,
        }
    }
}

impl RunEvents for Events<'_> {
    fn started(&mut self, container: &ContainerId) -> Result<()> {
        self.log
            .text(&format!(" ---> Running in {}\n", container.short()))
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes);
        self.not_executable |= stream == Stream::Stderr && text.ends_with(NOT_EXECUTABLE);
        let text = match stream {
            Stream::Stdout => text.into_owned(),
            // Docker's clients show what a step printed as an error in red.
            Stream::Stderr => format!("\u{1b}[91m{text}\u{1b}[0m"),
        };
        self.log
            .message(json!({ "stream": text }).to_string().into_bytes())
    }
}
