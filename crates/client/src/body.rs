//! Request bodies: none, bytes at hand, or a stream.

use std::io;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;

/// The body type of every request.
pub type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// What a call sends.
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes that can be sent again.
    Bytes(Bytes),
    /// A stream that can be sent once.
    Stream(RequestBody),
}

impl Body {
    /// A body that is produced while it is sent.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::Stream(StreamBody::new(stream.map(|item| item.map(Frame::data))).boxed_unsync())
    }

    /// Whether the body can be sent a second time.
    pub(crate) fn is_replayable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    /// The body for one attempt; a stream is gone afterwards.
    pub(crate) fn take(&mut self) -> RequestBody {
        match self {
            Self::Empty => empty(),
            Self::Bytes(bytes) => Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Self::Stream(_) => match std::mem::replace(self, Self::Empty) {
                Self::Stream(body) => body,
                _ => empty(),
            },
        }
    }
}

fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
