//! The body of a request. What nobody reads is thrown away for a while after the answer: a client that still sends gets to see
//! the answer, and not a connection that was reset.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::error::{ErrorCode, RegistryError};

/// Bytes of a body that nobody wants, and how long they are waited for.
const DISCARDED_MAX: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// What the client sends.
pub struct RequestBody {
    /// None after its end.
    incoming: Option<Incoming>,
    /// Whether the client sends nothing before it is told to go on.
    waits: bool,
}

impl RequestBody {
    /// The body of a request with these headers.
    pub fn new(headers: &HeaderMap, incoming: Incoming) -> Self {
        Self {
            incoming: Some(incoming).filter(|body| !body.is_end_stream()),
            waits: headers.contains_key(header::EXPECT),
        }
    }

    /// Its length, when that is known.
    pub fn exact_size(&self) -> Option<u64> {
        self.incoming
            .as_ref()
            .map_or(Some(0), |body| body.size_hint().exact())
    }

    /// The next bytes.
    ///
    /// # Errors
    /// 408: nothing came for `idle`; 400: the client went away.
    pub async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(body) = &mut self.incoming else {
                return Ok(None);
            };
            let frame = tokio::time::timeout(idle, body.frame()).await;
            if !matches!(frame, Ok(Some(Ok(_)))) {
                self.incoming = None;
            }
            let frame = frame.map_err(|_| {
                RegistryError::new(ErrorCode::BlobUploadInvalid, "the client is too slow")
                    .with_status(StatusCode::REQUEST_TIMEOUT)
            })?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                RegistryError::new(ErrorCode::BlobUploadInvalid, "the body ended early")
                    .with_detail(error.to_string())
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.incoming.take().filter(|_| !self.waits)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(DISCARD_TIME, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = DISCARDED_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
