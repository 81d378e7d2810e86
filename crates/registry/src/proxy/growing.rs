//! A file that is still being written, as the body of an answer.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::watch;

use super::fetch::{Fetch, State};
use crate::file_body::read_part;

/// Bytes read at a time at most.
const CHUNK: u64 = 256 << 10;

type Chunk = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// See the module.
pub struct GrowingBody {
    file: Arc<File>,
    state: watch::Receiver<State>,
    next: u64,
    end: u64,
    reading: Option<Chunk>,
}

impl GrowingBody {
    /// The bytes from `start` up to `end` of a fetch.
    pub fn new(fetch: &Fetch, start: u64, end: u64) -> Self {
        Self {
            file: Arc::clone(&fetch.file),
            state: fetch.state.clone(),
            next: start,
            end,
            reading: None,
        }
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.end - self.next
    }

    /// The next chunk; an error when the fetch has failed, so that the client sees a cut connection and no wrong content.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, state) = (Arc::clone(&self.file), self.state.clone());
            Box::pin(chunk(file, state, self.next, self.end))
        });
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        if let Ok(bytes) = &read {
            self.next += bytes.len() as u64;
        }
        Poll::Ready(Some(read))
    }
}

/// Waits for bytes and reads them. The last ones come when all are checked: a client never has a whole wrong blob.
async fn chunk(
    file: Arc<File>,
    mut state: watch::Receiver<State>,
    next: u64,
    end: u64,
) -> io::Result<Bytes> {
    let ready = state
        .wait_for(|state| match state {
            State::Written(offset) => *offset > next && *offset < end,
            State::Done | State::Failed => true,
        })
        .await
        .map(|state| *state)
        .map_err(io::Error::other)?;
    let written = match ready {
        State::Written(offset) => offset,
        State::Done => end,
        State::Failed => return Err(io::Error::other("the fetch from the upstream failed")),
    };
    let length = CHUNK.min(written.min(end) - next);
    tokio::task::spawn_blocking(move || read_part(&file, next, length))
        .await
        .map_err(io::Error::other)?
}
