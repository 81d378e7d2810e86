//! What can go wrong with volumes, in Docker's words.

use std::io;

use cais_types::{Error, ErrorClass};

/// A failure of the volume store; `Display` is the text for clients.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume of that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// The name breaks the rule.
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    BadName(String),
    /// The name is too short to be told from a drive letter.
    #[error(
        "create {0}: volume name is too short, names should be at least two alphanumeric characters"
    )]
    ShortName(String),
    /// An option of the local driver is unknown or incomplete.
    #[error("create {0}: {1}")]
    BadOption(String, String),
    /// Containers use the volume; their ids.
    #[error("remove {0}: volume is in use - [{1}]")]
    InUse(String, String),
    /// The volume is there with other options.
    #[error("create {0}: a volume with the same name already exists with other options")]
    OtherOptions(String),
    /// No such driver.
    #[error("error looking up volume plugin {0}: plugin {0:?} not found")]
    NoSuchDriver(String),
    /// What the options ask to be mounted cannot be.
    #[error(
        "failed to mount local volume: mount {device}:{target}{data}: {}",
        cais_types::error::plain(source)
    )]
    Mount {
        /// What is mounted.
        device: String,
        /// Where to.
        target: String,
        /// `, data: ...` or nothing.
        data: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("{operation} {path}: {}", cais_types::error::plain(source))]
    Io {
        /// `open`, `mkdir`, ...
        operation: &'static str,
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error("state database: {0}")]
    State(#[from] cais_state::StateError),
}

impl VolumeError {
    pub(crate) fn io(
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
            Self::NoSuchVolume(_) | Self::NoSuchDriver(_) => ErrorClass::NotFound,
            Self::BadName(_) | Self::ShortName(_) | Self::BadOption(..) => ErrorClass::Invalid,
            Self::InUse(..) | Self::OtherOptions(_) => ErrorClass::Conflict,
            Self::Mount { .. } | Self::Io { .. } | Self::State(_) => ErrorClass::Internal,
        }
    }
}

impl From<VolumeError> for Error {
    fn from(error: VolumeError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}
