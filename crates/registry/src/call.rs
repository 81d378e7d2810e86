//! One request as handlers see it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::auth::Access;
use super::error::{ErrorCode, RegistryError};
use super::request_body::RequestBody;

/// A request whose route is known.
pub struct Call {
    pub method: Method,
    pub headers: HeaderMap,
    pub query: Query,
    pub body: RequestBody,
    /// What the client may do.
    pub access: Access,
}

/// The query of a request, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; one that is broken is empty.
    pub fn parse(text: &str) -> Self {
        Self(serde_urlencoded::from_str(text).unwrap_or_default())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Call {
    /// A header as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads a body that may have `limit` bytes.
    ///
    /// # Errors
    /// 413: longer; 408: the client is too slow; 400: the client went away.
    pub async fn read_body(
        &mut self,
        limit: usize,
        idle: Duration,
    ) -> Result<Bytes, RegistryError> {
        let announced = self.body.exact_size().unwrap_or(0);
        if announced > limit as u64 {
            return Err(too_large(limit));
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(data) = self.body.next(idle).await? {
            if whole.len() + data.len() > limit {
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

fn too_large(limit: usize) -> RegistryError {
    RegistryError::new(
        ErrorCode::ManifestInvalid,
        format!("the body is longer than {limit} bytes"),
    )
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}
