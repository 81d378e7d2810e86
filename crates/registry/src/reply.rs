//! Answers: their bodies, the error document, and the pieces that several nouns share.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Builder;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use serde_json::json;

use super::error::RegistryError;
use super::file_body::FileBody;
use super::proxy::GrowingBody;

/// A finished answer.
pub type Reply = Response<Body>;
/// An answer or a refusal.
pub type Result<T = Reply> = std::result::Result<T, RegistryError>;

pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The bytes of an answer.
pub enum Body {
    Full(Option<Bytes>),
    /// A file of the store, or a part of it.
    File(FileBody),
    /// A blob that is just being fetched from its upstream.
    Growing(Box<GrowingBody>),
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self::Full(None)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(file) => file.poll_chunk(cx).map(as_frame),
            Self::Growing(blob) => blob.poll_chunk(cx).map(as_frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::File(file) => file.left() == 0,
            Self::Growing(blob) => blob.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Full(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.left(),
            Self::Growing(blob) => blob.left(),
        })
    }
}

fn as_frame(chunk: Option<std::io::Result<Bytes>>) -> Option<std::io::Result<Frame<Bytes>>> {
    chunk.map(|chunk| chunk.map(Frame::data))
}

/// Starts an answer.
pub fn status(status: StatusCode) -> Builder {
    Response::builder().status(status)
}

/// Ends an answer.
///
/// # Errors
/// A header that cannot be sent.
pub fn finish(builder: Builder, body: Body) -> Result {
    builder
        .body(body)
        .map_err(|error| RegistryError::internal("answer", &error))
}

/// An answer with a JSON document.
///
/// # Errors
/// As [`finish`].
pub fn json(builder: Builder, media_type: &str, document: &impl Serialize) -> Result {
    let bytes =
        serde_json::to_vec(document).map_err(|error| RegistryError::internal("answer", &error))?;
    finish(
        builder.header(header::CONTENT_TYPE, media_type),
        bytes.into(),
    )
}

/// The document that a refusal is answered with.
pub fn refusal(error: &RegistryError) -> Reply {
    let detail = error.detail.as_ref().map(|detail| json!(detail));
    let document = json!({"errors": [{
        "code": error.code.as_str(),
        "message": error.message,
        "detail": detail,
    }]});
    let mut reply = Response::new(Body::from(document.to_string().into_bytes()));
    *reply.status_mut() = error.status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in &error.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
    reply
}

/// What every answer has: the API's version, and no body for HEAD, whose length is told nevertheless.
pub fn complete(mut reply: Reply, head_only: bool) -> Reply {
    let length = reply.body().size_hint().exact().unwrap_or(0);
    let headers = reply.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if head_only {
        if !headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *reply.body_mut() = Body::empty();
    }
    reply
}
