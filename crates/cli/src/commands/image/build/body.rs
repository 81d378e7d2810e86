//! Bodies of builds: a directory as an archive, or, to a daemon that may have it from a build before, as a list of what there is
//! and then what of it is wanted.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cais_build::directory::Directory;
use cais_build::listing::{self, Ranges, SectionWriter};
use cais_client::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::error::CliError;

/// Bytes of a piece of the body.
const PIECE: usize = 256 << 10;
/// Pieces that may wait for the connection.
const DEPTH: usize = 4;

/// Tells what of contexts is wanted.
pub type Answer = oneshot::Sender<Vec<Ranges>>;

/// Why a body could not be sent to its end. The daemon only sees it break off, and what it answers to that explains nothing.
#[derive(Clone, Default)]
pub struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// The error to show: the reason on this side, if there is one.
    pub fn explain(&self, error: CliError) -> CliError {
        self.0.get().map_or(error, CliError::new)
    }
}

/// All of a directory as an archive. `scratch` goes when it is sent.
pub fn archive(directory: Directory, scratch: Option<TempDir>, failure: &Failure) -> Body {
    body(failure, move |sink| {
        let packed = directory.pack(&directory.all(), sink);
        drop(scratch);
        packed
    })
}

/// All of a directory as an archive, compressed with gzip.
pub fn compressed(directory: Directory, failure: &Failure) -> Body {
    body(failure, move |sink| {
        let mut encoder = GzEncoder::new(sink, Compression::default());
        directory.pack(&directory.all(), &mut encoder)?;
        encoder.finish().map(|_| ())
    })
}

/// Lists of directories, by their names in the build, and what is answered to that.
pub fn listed(directories: Vec<(String, Directory)>, failure: &Failure) -> (Body, Answer) {
    let (answer, wanted): (Answer, _) = oneshot::channel();
    let body = body(failure, move |sink| {
        let listings = directories.iter();
        let listings = listings.map(|(name, directory)| directory.listing(name));
        listing::write(&listings.collect::<Vec<_>>(), sink)?;
        sink.flush()?;
        // A build that has ended wants nothing.
        let Ok(wanted) = wanted.blocking_recv() else {
            return Ok(());
        };
        for ((_, directory), wanted) in directories.iter().zip(&wanted) {
            let mut section = SectionWriter::new(sink);
            directory.pack(wanted, &mut section)?;
            section.finish()?;
        }
        Ok(())
    });
    (body, answer)
}

/// A body that a thread writes.
fn body(
    failure: &Failure,
    write: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static,
) -> Body {
    let failure = failure.clone();
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink {
            sender: sender.clone(),
            buffer: Vec::with_capacity(PIECE),
        };
        if let Err(error) = write(&mut sink).and_then(|()| sink.flush()) {
            // When the daemon hung up, it has told why.
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = failure.0.set(format!("error from sender: {error}"));
            }
            // The daemon must not take half a context for a whole one.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::stream(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.buffer);
        if piece.is_empty() {
            return Ok(());
        }
        self.buffer.reserve(PIECE);
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
