//! Errors as a registry answers them: a code of the specification, a sentence, and the HTTP status that goes with them
//! (distribution-spec, "Error codes"). The one place where codes become statuses.

use std::fmt;
use std::io;

use cais_state::StateError;
use http::StatusCode;

/// The codes of distribution-spec 1.1, and those that Docker's registry has besides. `DENIED` is not among them: who may not do
/// something is asked who he is (`UNAUTHORIZED`), so that his client can come with another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Unsupported,
    TooManyRequests,
    /// Docker's: `n` is no number that can be served.
    PaginationNumberInvalid,
    /// Docker's: cannot be done now.
    Unavailable,
    /// Docker's: anything else.
    Unknown,
}

impl ErrorCode {
    /// The code as it is written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::PaginationNumberInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub struct RegistryError {
    pub code: ErrorCode,
    pub status: StatusCode,
    pub message: String,
    pub detail: Option<String>,
    /// Headers that the answer needs: a challenge, the offset of an upload.
    pub headers: Vec<(http::HeaderName, String)>,
}

impl RegistryError {
    /// A refusal with the usual status of its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }
    }

    /// What the refusal is about.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Another status than the usual one.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// One more header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: http::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Something of this registry's own failed: what is for the log.
    pub fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            chain = format!("{chain}: {cause}");
            source = cause.source();
        }
        tracing::error!(error = chain, "{what}");
        Self::new(ErrorCode::Unknown, "unknown error")
    }

    pub(super) fn blob_unknown(digest: &cais_types::Digest) -> Self {
        Self::new(ErrorCode::BlobUnknown, "blob unknown to registry")
            .with_detail(digest.to_string())
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(
            ErrorCode::BlobUploadUnknown,
            "blob upload unknown to registry",
        )
    }

    pub(super) fn name_unknown(name: &str) -> Self {
        Self::new(
            ErrorCode::NameUnknown,
            "repository name not known to registry",
        )
        .with_detail(name)
    }

    pub(super) fn manifest_unknown(what: &str) -> Self {
        Self::new(ErrorCode::ManifestUnknown, "manifest unknown").with_detail(what)
    }

    pub(super) fn manifest_invalid(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::ManifestInvalid, "manifest invalid").with_detail(why)
    }

    pub(super) fn unsupported() -> Self {
        Self::new(ErrorCode::Unsupported, "The operation is unsupported.")
    }

    fn full() -> Self {
        Self::new(ErrorCode::Unavailable, "no space left on device")
            .with_status(StatusCode::INSUFFICIENT_STORAGE)
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RegistryError {}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull {
            return Self::full();
        }
        Self::internal("disk", &error)
    }
}

impl From<StateError> for RegistryError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Full(_) => Self::full(),
            other => Self::internal("database", &other),
        }
    }
}

impl From<tokio::task::JoinError> for RegistryError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal("task", &error)
    }
}
