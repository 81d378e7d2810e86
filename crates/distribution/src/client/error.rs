//! What can go wrong between the client and a registry, and how it is said to users.

use std::fmt;
use std::time::Duration;

use cais_types::oci::DocumentError;
use cais_types::{Digest, Error, ErrorClass, Reference};
use http::StatusCode;
use serde::Deserialize;

use super::retry::asked_wait;
use super::{challenge, tls_words};

/// A failure of one operation; `Display` is what Docker says of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer came, or it broke off.
    #[error("{verb} {url:?}: {reason}")]
    Transport {
        verb: &'static str,
        url: String,
        /// In the words of Go's network library.
        reason: String,
        /// Whether another attempt may do better.
        passing: bool,
    },
    /// An answer that is not the one asked for.
    #[error("{0}")]
    Answer(Box<Answer>),
    #[error("{verb} {url:?}: no basic auth credentials")]
    NoCredentials { verb: &'static str, url: String },
    /// A token server or the target of a redirect that nothing is sent to.
    #[error("refusing to use {url:?}: {reason}")]
    Refused { url: String, reason: &'static str },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("{what} verification failed for digest {digest}")]
    Digest { what: &'static str, digest: Digest },
    #[error("{what} {digest}: expected {want} bytes, got {got}")]
    Size {
        what: &'static str,
        digest: Digest,
        want: u64,
        got: u64,
    },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{0}")]
    Unusable(String),
    #[error("{0}")]
    Settings(String),
    /// What the store said.
    #[error("{0}")]
    Store(Error),
}

impl RegistryError {
    /// Whether another attempt may do better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Transport { passing, .. } => *passing,
            Self::Answer(answer) => answer.is_passing(),
            _ => false,
        }
    }

    /// How long the registry asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer(answer) => answer.retry_after,
            _ => None,
        }
    }

    /// The status of the answer, if one came.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// The error of a pull of this reference.
    pub fn of_pull(self, reference: &Reference) -> Error {
        let code = match &self {
            Self::Answer(answer) => answer.code(),
            _ => None,
        };
        // Of several reasons the first counts.
        let text = match &self {
            Self::Answer(answer) => answer.first(),
            other => other.to_string(),
        };
        let (name, full) = (reference.familiar_name(), reference.familiar());
        let said = match code {
            Some("DENIED") => format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login': {text}"
            ),
            Some("MANIFEST_UNKNOWN") => format!("manifest for {full} not found: {text}"),
            Some("NAME_UNKNOWN") => format!("repository {name} not found: {text}"),
            _ => {
                // Only a login is told that it is unauthorized: docker's command line would ask for a password here.
                return match self {
                    Self::Answer(_) => Error::internal(text).with_source(self),
                    other => other.plain(),
                };
            }
        };
        Error::not_found(said).with_source(self)
    }

    /// The error of a push.
    pub fn of_push(self) -> Error {
        match self {
            Self::NoCredentials { .. } => Error::internal("no basic auth credentials"),
            Self::Answer(_) => Error::internal(self.to_string()).with_source(self),
            other => other.plain(),
        }
    }

    /// The error without a reference in its words.
    pub fn plain(self) -> Error {
        let class = match &self {
            Self::Store(_) => {
                let Self::Store(error) = self else {
                    return Error::internal(self.to_string());
                };
                return error;
            }
            Self::Answer(answer) => match answer.status {
                StatusCode::NOT_FOUND => ErrorClass::NotFound,
                StatusCode::UNAUTHORIZED => ErrorClass::Unauthorized,
                StatusCode::FORBIDDEN => ErrorClass::Forbidden,
                StatusCode::TOO_MANY_REQUESTS => ErrorClass::Unavailable,
                status if status.is_server_error() => ErrorClass::Unavailable,
                _ => ErrorClass::Internal,
            },
            Self::Unusable(_) => ErrorClass::NotFound,
            Self::Settings(_) => ErrorClass::Invalid,
            _ => ErrorClass::Internal,
        };
        Error::new(class, self.to_string()).with_source(self)
    }
}

/// An answer with a status that says no.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    errors: Vec<ApiError>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The forms that registries and token servers give their errors.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    errors: Vec<ApiError>,
    details: Option<String>,
    error_description: Option<String>,
    message: Option<String>,
}

impl Answer {
    /// Reads the head and the body of an answer; `unknown` is the code of a 404 that says nothing.
    pub fn new(
        status: StatusCode,
        headers: &http::HeaderMap,
        body: &[u8],
        unknown: &'static str,
    ) -> Self {
        let mut body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let code = match status {
            StatusCode::UNAUTHORIZED => Some("UNAUTHORIZED"),
            StatusCode::FORBIDDEN => Some("DENIED"),
            StatusCode::NOT_FOUND => Some(unknown),
            StatusCode::TOO_MANY_REQUESTS => Some("TOOMANYREQUESTS"),
            _ => None,
        };
        if body.errors.is_empty()
            && let Some(code) = code
        {
            let said = body.details.or(body.error_description).or(body.message);
            body.errors.push(ApiError {
                code: code.to_owned(),
                message: said.unwrap_or_default(),
            });
        }
        if let Some((code, message)) = challenge::token_error(headers) {
            let code = code.to_owned();
            let error = ApiError { code, message };
            body.errors.retain(|other| other.code != error.code);
            body.errors.insert(0, error);
        }
        Self {
            status,
            retry_after: asked_wait(headers),
            errors: body.errors,
        }
    }

    /// The first reason.
    fn first(&self) -> String {
        match self.errors.first() {
            Some(error) => error.to_string(),
            None => self.to_string(),
        }
    }

    /// The registry's code for it (distribution-spec, error codes).
    pub fn code(&self) -> Option<&str> {
        self.errors.first().map(|error| error.code.as_str())
    }

    fn is_passing(&self) -> bool {
        matches!(
            self.status.as_u16(),
            408 | 425 | 429 | 500 | 502 | 503 | 504
        )
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.as_slice() {
            [] => write!(f, "received unexpected HTTP status: {}", self.status),
            [one] => write!(f, "{one}"),
            many => {
                writeln!(f, "errors:")?;
                many.iter().try_for_each(|error| writeln!(f, "{error}"))
            }
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        let message = match (self.message.as_str(), self.code.as_str()) {
            ("", "UNAUTHORIZED") => "authentication required",
            ("", "DENIED") => "requested access to the resource is denied",
            ("", "TOOMANYREQUESTS") => "too many requests",
            ("", "NAME_UNKNOWN") => "repository name not known to registry",
            ("", _) => code.as_str(),
            (message, _) => message,
        };
        write!(f, "{code}: {message}")
    }
}

/// The verb as Go's HTTP client writes it.
pub fn verb(method: &http::Method) -> &'static str {
    match *method {
        http::Method::HEAD => "Head",
        http::Method::POST => "Post",
        http::Method::PUT => "Put",
        http::Method::PATCH => "Patch",
        http::Method::DELETE => "Delete",
        _ => "Get",
    }
}

/// Why a request failed, in the words of Go's network library, and whether another attempt may do better.
pub fn transport_reason(error: &reqwest::Error, host: &str) -> (String, bool) {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(outer) = current.downcast_ref::<std::io::Error>() {
            let (io, inner) = innermost(outer);
            if let Some(tls) = inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
                return (tls_words::reason(tls, host), false);
            }
            if let Some(refused) = inner.and_then(|e| e.downcast_ref::<super::address::NoAddress>())
            {
                return (format!("dial tcp: {refused}"), refused.passing());
            }
            if let Some(text) = io_reason(io, error.is_connect(), host) {
                return (text, true);
            }
        }
        if let Some(refused) = current.downcast_ref::<super::address::NoAddress>() {
            return (format!("dial tcp: {refused}"), refused.passing());
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return (tls_words::reason(tls, host), false);
        }
        cause = current.source();
    }
    if error.is_timeout() && error.is_connect() {
        let text = "net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)";
        return (text.to_owned(), true);
    }
    if error.is_timeout() {
        return (waited_for_head(), true);
    }
    let mut text = "unexpected EOF".to_owned();
    if error.is_builder() {
        text = error.to_string();
    }
    (text, !error.is_builder())
}

/// The error that is wrapped deepest in errors of input and output, which do not tell of each other as sources, and what that
/// one holds.
fn innermost(
    error: &std::io::Error,
) -> (
    &std::io::Error,
    Option<&(dyn std::error::Error + Send + Sync + 'static)>,
) {
    let mut io = error;
    loop {
        let inner = io.get_ref();
        match inner.and_then(|e| e.downcast_ref::<std::io::Error>()) {
            Some(deeper) => io = deeper,
            None => return (io, inner.map(|e| e as _)),
        }
    }
}

/// What Go says when the head of an answer does not come.
pub fn waited_for_head() -> String {
    "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned()
}

fn io_reason(error: &std::io::Error, connecting: bool, host: &str) -> Option<String> {
    error.raw_os_error()?;
    let plain = cais_types::error::plain(error);
    Some(if connecting {
        format!("dial tcp {}: connect: {plain}", dialled(host))
    } else {
        format!("read tcp {}: {plain}", dialled(host))
    })
}

/// A name of this machine as the address that is dialled for it.
fn dialled(host: &str) -> String {
    match host.strip_prefix("localhost") {
        Some(port) if port.is_empty() || port.starts_with(':') => format!("127.0.0.1{port}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> RegistryError {
        let status = StatusCode::from_u16(status).unwrap();
        RegistryError::Answer(Box::new(Answer::new(
            status,
            &http::HeaderMap::new(),
            body.as_bytes(),
            "MANIFEST_UNKNOWN",
        )))
    }

    #[test]
    fn answers_are_told_in_dockers_words() {
        let reference: Reference = "nosuch:1".parse().unwrap();
        for (status, body, want) in [
            (
                401,
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
                "pull access denied for nosuch, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                "manifest for nosuch:1 not found: manifest unknown: manifest unknown",
            ),
            (
                404,
                "",
                "manifest for nosuch:1 not found: manifest unknown: manifest unknown",
            ),
            (401, "", "unauthorized: authentication required"),
            (
                401,
                r#"{"details":"incorrect username or password"}"#,
                "unauthorized: incorrect username or password",
            ),
            (
                502,
                "<html>",
                "received unexpected HTTP status: 502 Bad Gateway",
            ),
        ] {
            assert_eq!(answer(status, body).of_pull(&reference).message(), want);
        }
        let mut headers = http::HeaderMap::new();
        let challenge = r#"Bearer realm="https://t/",error="insufficient_scope""#;
        headers.insert(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let refused = || {
            let status = StatusCode::UNAUTHORIZED;
            let answer = Answer::new(status, &headers, body, "NAME_UNKNOWN");
            RegistryError::Answer(Box::new(answer))
        };
        assert_eq!(
            refused().of_pull(&reference).message(),
            "pull access denied for nosuch, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        );
        assert_eq!(
            refused().plain().message(),
            "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n"
        );
        assert!(answer(503, "").is_passing() && !answer(404, "").is_passing());
    }
}
