//! Answers: plain, JSON, streams, and connections that leave HTTP; and the one map from error class to HTTP status.

use std::pin::Pin;

use bytes::Bytes;
use cais_types::{Error, ErrorClass, Framing, Result};
use futures_core::Stream;
use futures_util::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use crate::backend::{Answers, Hijack};

/// Body of an answer; an error in it breaks the connection off.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Error>;

/// What a handler answers.
pub enum Reply {
    /// An HTTP answer.
    Http(Response<Body>),
    /// The connection leaves HTTP.
    Hijack(Hijack),
}

/// The HTTP status of an error class.
pub fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Invalid => StatusCode::BAD_REQUEST,
        ErrorClass::Conflict | ErrorClass::AlreadyExists => StatusCode::CONFLICT,
        ErrorClass::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorClass::Forbidden => StatusCode::FORBIDDEN,
        ErrorClass::NotModified => StatusCode::NOT_MODIFIED,
        ErrorClass::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Canceled | ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Reply {
    Reply::Http(respond(
        status,
        None,
        Full::default().map_err(never).boxed_unsync(),
    ))
}

/// A JSON answer with status 200.
pub fn json<T: Serialize>(value: &T) -> Result<Reply> {
    json_as(StatusCode::OK, value)
}

/// A JSON answer.
///
/// # Errors
/// Internal: the value cannot be printed.
pub fn json_as<T: Serialize>(status: StatusCode, value: &T) -> Result<Reply> {
    Ok(Reply::Http(bytes(
        status,
        "application/json",
        json_line(value)?,
    )))
}

/// The error answer `{"message":"..."}`.
pub fn error(error: &Error) -> Response<Body> {
    let status = status(error.class());
    if status == StatusCode::NOT_MODIFIED {
        return respond(status, None, Full::default().map_err(never).boxed_unsync());
    }
    let body = cais_types::api::ErrorResponse {
        message: error.message().to_owned(),
    };
    let line = json_line(&body).unwrap_or_default();
    bytes(status, "application/json", line)
}

/// Bytes of a content type.
pub fn bytes(status: StatusCode, content_type: &'static str, content: Bytes) -> Response<Body> {
    respond(
        status,
        Some(content_type),
        Full::new(content).map_err(never).boxed_unsync(),
    )
}

/// Chunks, each sent at once.
pub fn stream(
    content_type: &'static str,
    chunks: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> Reply {
    let frames = chunks.map(|chunk| chunk.map(Frame::data));
    let body = BodyExt::boxed_unsync(StreamBody::new(frames));
    Reply::Http(respond(StatusCode::OK, Some(content_type), body))
}

/// One JSON text a line, each sent at once.
pub fn json_stream<T: Serialize + 'static>(answers: Answers<T>) -> Reply {
    stream(
        "application/json",
        answers.map(|answer| answer.and_then(|value| json_line(&value))),
    )
}

/// Progress lines. The status is sent already when one fails, so the failure is a line as well, as in Docker.
pub fn progress(lines: Answers<Bytes>) -> Reply {
    stream("application/json", lines.map(progress_line))
}

fn progress_line(line: Result<Bytes>) -> Result<Bytes> {
    let mut text = match line {
        Ok(line) => Vec::from(line),
        Err(error) => {
            let detail = serde_json::json!({
                "errorDetail": { "message": error.message() },
                "error": error.message(),
            });
            detail.to_string().into_bytes()
        }
    };
    text.extend_from_slice(b"\r\n");
    Ok(Bytes::from(text))
}

/// The content type of framed or raw output; clients before 1.42 know only one.
pub fn output_type(framing: Framing, version: crate::version::Version) -> &'static str {
    match framing {
        Framing::Multiplexed if !version.before(42) => "application/vnd.docker.multiplexed-stream",
        Framing::Multiplexed | Framing::Raw => "application/vnd.docker.raw-stream",
    }
}

/// A future's answer as a stream of one chunk, for answers whose head is sent before it.
pub fn later<F>(answer: F) -> Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>
where
    F: Future<Output = Result<Bytes>> + Send + 'static,
{
    Box::pin(futures_util::stream::once(answer))
}

/// A value as one line of JSON.
///
/// # Errors
/// Internal: the value cannot be printed.
pub fn json_line<T: Serialize>(value: &T) -> Result<Bytes> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| Error::internal("cannot print the answer").with_source(error))?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}

fn respond(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        let value = HeaderValue::from_static(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

fn never(never: std::convert::Infallible) -> Error {
    match never {}
}
