//! The error that crosses rooms: a class, the sentence Docker would print, and the cause behind it.
//!
//! Inside a room errors are small `thiserror` enums; at the room's edge they become an [`Error`]. `api` maps the class to
//! an HTTP status and `cli` to an exit code, each in one function.

use std::fmt;

/// What kind of failure it was; decides the HTTP status and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The named object does not exist.
    NotFound,
    /// The request itself is wrong.
    Invalid,
    /// The request is right but the state of the object forbids it.
    Conflict,
    /// An object of that name is there already.
    AlreadyExists,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// Nothing had to be done (HTTP 304).
    NotModified,
    /// Not built, or not possible on this host.
    Unsupported,
    /// Cannot be done now; may work later.
    Unavailable,
    /// The caller went away.
    Canceled,
    /// Anything else.
    Internal,
}

/// A classified failure. `Display` is the text a client sees, in Docker's wording.
#[derive(Debug)]
pub struct Error {
    class: ErrorClass,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of an operation that crosses rooms.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a class with the text a client will see.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the cause for the log; it is not shown to clients.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The class of this failure.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The text a client sees.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// [`ErrorClass::NotFound`] with a message.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::NotFound, message)
    }

    /// [`ErrorClass::Invalid`] with a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Invalid, message)
    }

    /// [`ErrorClass::Conflict`] with a message.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Conflict, message)
    }

    /// [`ErrorClass::Unsupported`] with a message.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unsupported, message)
    }

    /// [`ErrorClass::Internal`] with a message.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Internal, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error of the kernel as C and Go print it: in lower case and without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}
