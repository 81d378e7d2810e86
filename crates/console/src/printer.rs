//! The one place that writes to standard output and standard error.

use std::io::{self, Write as _};

/// Writes whole pieces; a reader that went away is no error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Printer;

impl Printer {
    /// Writes bytes to standard output.
    pub fn out_bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    }

    /// Writes bytes to standard error.
    pub fn err_bytes(self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }

    /// Writes text to standard output.
    pub fn out(self, text: &str) {
        drop(self.out_bytes(text.as_bytes()));
    }

    /// Writes a line to standard output.
    pub fn line(self, text: &str) {
        self.out(&format!("{text}\n"));
    }

    /// Writes text to standard error.
    pub fn err(self, text: &str) {
        drop(self.err_bytes(text.as_bytes()));
    }

    /// Writes a line to standard error.
    pub fn err_line(self, text: &str) {
        self.err(&format!("{text}\n"));
    }
}
