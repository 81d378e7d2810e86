//! Answers: JSON kept as it came and decoded when asked, bodies as byte streams, and streams of JSON documents.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use serde::de::DeserializeOwned;

use crate::body::RequestBody;
use crate::error::{ClientError, Result};

/// A JSON answer that has not been decoded: templates and `inspect` need its own order and its unknown fields.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    raw: Bytes,
    shape: PhantomData<fn() -> T>,
}

impl<T> Answer<T> {
    pub(crate) fn new(raw: Bytes) -> Self {
        Self {
            raw,
            shape: PhantomData,
        }
    }

    /// The answer's bytes.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

impl<T: DeserializeOwned> Answer<T> {
    /// The answer as its type.
    ///
    /// # Errors
    /// [`ClientError::Decode`] when it is not.
    pub fn decode(&self) -> Result<T> {
        cais_types::api::decode::from_slice(&self.raw)
            .map_err(|error| ClientError::Decode(error.to_string()))
    }
}

/// A body as it arrives. Dropping it before the end closes the connection.
pub struct ByteStream {
    body: Incoming,
    /// Keeps the connection open while the body is read.
    _sender: SendRequest<RequestBody>,
}

impl ByteStream {
    pub(crate) fn new(body: Incoming, sender: SendRequest<RequestBody>) -> Self {
        Self {
            body,
            _sender: sender,
        }
    }

    /// Reads newline-separated (or merely concatenated) JSON documents.
    pub fn json_lines(self) -> JsonLines {
        JsonLines {
            stream: self,
            buffer: BytesMut::new(),
            ended: false,
        }
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

/// JSON documents one after the other: progress, events, statistics.
pub struct JsonLines {
    stream: ByteStream,
    buffer: BytesMut,
    ended: bool,
}

impl JsonLines {
    /// The next document as it came, `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Decode`] for text that is no JSON, [`ClientError::Io`] when the connection breaks.
    pub async fn next_raw(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(document) = self.take_document()? {
                return Ok(Some(document));
            }
            if self.ended {
                return Ok(None);
            }
            match self.stream.next().await {
                Some(piece) => self.buffer.extend_from_slice(&piece?),
                None => self.ended = true,
            }
        }
    }

    /// The next document as its type, `None` at the end.
    ///
    /// # Errors
    /// As [`JsonLines::next_raw`].
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.next_raw().await? {
            Some(raw) => Answer::new(raw).decode().map(Some),
            None => Ok(None),
        }
    }

    fn take_document(&mut self) -> Result<Option<Bytes>> {
        let blank = self
            .buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        self.buffer.advance(blank);
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let mut documents =
            serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde::de::IgnoredAny>();
        match documents.next() {
            Some(Ok(_)) => {
                let end = documents.byte_offset();
                Ok(Some(self.buffer.split_to(end).freeze()))
            }
            Some(Err(error)) if !error.is_eof() || self.ended => {
                Err(ClientError::Decode(error.to_string()))
            }
            _ => Ok(None),
        }
    }
}
