//! What can go wrong between a client and a daemon, in Docker's wording.

use std::io;

use cais_types::ErrorClass;

/// Result of a client operation.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// A failed operation. `Display` is what `docker` prints for it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon answered with an error status.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status code.
        status: u16,
        /// The `message` of the answer.
        message: String,
    },
    /// Nobody listens at the host.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Unreachable {
        /// The host as the user wrote it.
        host: String,
        /// What connecting said.
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: \
         {request}: dial unix {path}: connect: permission denied"
    )]
    PermissionDenied {
        /// The host as the user wrote it.
        host: String,
        /// Method and URL, as Go's HTTP client names them.
        request: String,
        /// Path of the socket.
        path: String,
    },
    /// The connection broke, or the peer does not speak HTTP.
    #[error("error during connect: {request}: {cause}")]
    Transport {
        /// Method and URL.
        request: String,
        /// What broke.
        cause: String,
    },
    /// A host, context or option that makes no sense.
    #[error("{0}")]
    Configuration(String),
    /// Something this client cannot do yet.
    #[error("{0}")]
    Unsupported(String),
    /// The answer is not what the API promises.
    #[error("cannot understand the daemon's answer: {0}")]
    Decode(String),
    /// Reading or writing a stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The class of this failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Daemon { status, .. } => class_of_status(*status),
            Self::Unreachable { .. } | Self::Transport { .. } => ErrorClass::Unavailable,
            Self::PermissionDenied { .. } => ErrorClass::Forbidden,
            Self::Configuration(_) => ErrorClass::Invalid,
            Self::Unsupported(_) => ErrorClass::Unsupported,
            Self::Decode(_) | Self::Io(_) => ErrorClass::Internal,
        }
    }

    /// The daemon's own words, without the prefix that tells where they come from.
    pub fn daemon_message(&self) -> Option<&str> {
        match self {
            Self::Daemon { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether the named object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.class() == ErrorClass::NotFound
    }
}

impl From<ClientError> for cais_types::Error {
    fn from(error: ClientError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

fn class_of_status(status: u16) -> ErrorClass {
    match status {
        304 => ErrorClass::NotModified,
        401 => ErrorClass::Unauthorized,
        403 => ErrorClass::Forbidden,
        404 => ErrorClass::NotFound,
        409 => ErrorClass::Conflict,
        400..=499 => ErrorClass::Invalid,
        501 => ErrorClass::Unsupported,
        503 => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    }
}
