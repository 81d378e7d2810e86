//! What is wrong with a Dockerfile, where, and the excerpt that shows it.

use std::fmt;

use super::source::{Lines, Source};

/// A Dockerfile that can't be understood. `Display` is BuildKit's sentence with the line's number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The sentence without the line.
    pub message: String,
    /// Where it is; none when it is about the file as a whole.
    pub lines: Option<Lines>,
    /// The file it is in, when INCLUDE brought it in.
    pub file: Option<String>,
}

impl ParseError {
    /// An error about some lines.
    pub fn at(lines: Lines, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            lines: Some(lines),
            file: None,
        }
    }

    /// An error about the file as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            lines: None,
            file: None,
        }
    }

    /// Says which included file the error is in.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// The excerpt with `>>>` before the wrong lines, and the sentence below it.
    pub fn show(&self, source: &Source) -> String {
        match self.lines {
            Some(lines) => format!("{}ERROR: {self}\n", source.excerpt(lines)),
            None => format!("ERROR: {self}\n"),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.lines, &self.file) {
            (Some(lines), None) => write!(
                f,
                "dockerfile parse error on line {}: {}",
                lines.start, self.message
            ),
            (Some(lines), Some(file)) => write!(
                f,
                "dockerfile parse error in {file} on line {}: {}",
                lines.start, self.message
            ),
            (None, _) => f.write_str(&self.message),
        }
    }
}

impl From<ParseError> for cais_types::Error {
    fn from(error: ParseError) -> Self {
        Self::invalid(error.to_string())
    }
}
