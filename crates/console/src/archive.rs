//! Archives that are sent to the daemon: from a file or from standard input, read while they are sent.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use cais_client::body::Body;
use futures_util::stream;

use crate::error::{CliError, Result};

const PIECE: usize = 256 << 10;

/// The archive at a path, or on standard input for `-`.
///
/// # Errors
/// The file cannot be opened.
pub fn source(path: &str) -> Result<Body> {
    let reader = if path == "-" {
        Reader::Stdin
    } else {
        let file = File::open(path).map_err(|error| {
            let cause = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
            CliError::new(format!("open {path}: {cause}"))
        })?;
        Reader::File(file)
    };
    Ok(Body::stream(stream::unfold(reader, |mut reader| async {
        let (piece, reader) = tokio::task::spawn_blocking(move || (reader.piece(), reader))
            .await
            .ok()?;
        match piece {
            Ok(piece) if piece.is_empty() => None,
            piece => Some((piece, reader)),
        }
    })))
}

enum Reader {
    Stdin,
    File(File),
}

impl Reader {
    fn piece(&mut self) -> io::Result<Bytes> {
        let mut buffer = vec![0; PIECE];
        let read = match self {
            Self::Stdin => io::stdin().read(&mut buffer)?,
            Self::File(file) => file.read(&mut buffer)?,
        };
        buffer.truncate(read);
        Ok(buffer.into())
    }
}
