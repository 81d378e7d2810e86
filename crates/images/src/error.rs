//! What can go wrong in this room, and the sentence a client sees for it.

use std::io;

use cais_types::{Error, ErrorClass};

/// A failure of the image store; `Display` is the text for clients.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The image is not for the platform asked for.
    #[error("image with reference {0} was found but does not provide the specified platform ({1})")]
    OtherPlatform(String, String),
    /// The name to be removed is not there.
    #[error("reference does not exist")]
    NoSuchReference,
    /// No image of that name to be pushed.
    #[error("{0}")]
    NoSuchTag(String),
    /// An id prefix that several images share, a bad name, a bad `--change`.
    #[error("{0}")]
    Invalid(String),
    /// The state of the image or of a container forbids it.
    #[error("{0}")]
    Conflict(String),
    /// A tar stream is damaged or hostile.
    #[error("Error processing tar file: {0}")]
    Tar(#[source] TarError),
    /// An archive is no image archive, or lacks a part.
    #[error("{0}")]
    Archive(String),
    /// A system call failed; worded as `open /path: no space left on device`.
    #[error("{operation} {path}: {}", errno_text(source))]
    Io {
        /// `open`, `mkdir`, `write`, ...
        operation: &'static str,
        /// The path as the user knows it, or ours.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What was written is not what its name says.
    #[error("{what} verification failed: want {want}, have {have}")]
    Verification {
        /// `layer`, `config`, ...
        what: &'static str,
        /// The digest asked for.
        want: String,
        /// The digest found.
        have: String,
    },
    /// The stream of a layer is not what its descriptor says.
    #[error("filesystem layer verification failed for digest {0}")]
    Layer(String),
    /// A layer's tar stream is not the one that the configuration names.
    #[error("layers from manifest don't match image configuration")]
    RootFs,
    /// The database failed.
    #[error("state database: {0}")]
    State(#[from] cais_state::StateError),
    /// Not built.
    #[error("{0}")]
    Unsupported(String),
    /// A layer directory that a record names is missing or damaged.
    #[error("layer {0} is damaged: {1}")]
    Damaged(String, String),
}

/// What is wrong with a tar stream.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ends inside an entry.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// A header or an extended header does not follow its format.
    #[error("archive/tar: invalid tar header: {0}")]
    Header(&'static str),
    /// An entry points out of the tree.
    #[error("{0:?} is outside of \"/\"")]
    Outside(String),
    /// An entry of a kind that cannot be unpacked.
    #[error("unhandled tar header type {0} of {1:?}")]
    Kind(char, String),
    /// A bound was passed: entries, bytes, path length, compression ratio.
    #[error("archive refused: {0}")]
    Limit(String),
    /// A system call on an entry failed.
    #[error("{operation} /{path}: {}", errno_text(source))]
    Entry {
        /// `open`, `mkdir`, `link`, ...
        operation: &'static str,
        /// The entry's path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The stream itself failed, or does not decompress.
    #[error("{}", errno_text(.0))]
    Stream(#[source] io::Error),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::UnexpectedEof;
        }
        Self::Stream(error)
    }
}

impl From<TarError> for ImageError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl ImageError {
    /// Wraps a failed system call.
    pub fn io(
        operation: &'static str,
        path: impl AsRef<std::path::Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            operation,
            path: path.as_ref().display().to_string(),
            source: source.into(),
        }
    }

    /// The class that crosses rooms.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::OtherPlatform(..)
            | Self::NoSuchImage(_)
            | Self::NoSuchReference
            | Self::NoSuchTag(_) => ErrorClass::NotFound,
            Self::Invalid(_) => ErrorClass::Invalid,
            Self::Conflict(_) => ErrorClass::Conflict,
            Self::Archive(_) => ErrorClass::Invalid,
            Self::Unsupported(_) => ErrorClass::Unsupported,
            Self::Tar(_)
            | Self::Io { .. }
            | Self::Verification { .. }
            | Self::Layer(_)
            | Self::RootFs
            | Self::State(_)
            | Self::Damaged(..) => ErrorClass::Internal,
        }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

impl From<cais_types::reference::ReferenceError> for ImageError {
    fn from(error: cais_types::reference::ReferenceError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// An error as Go prints it: `no space left on device`.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text
        .split_once(" (os error")
        .map_or(&*text, |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}
