//! Takes a multiplexed stream apart: frames of an 8-byte header (`[stream, 0, 0, 0, length as big-endian u32]`) and a
//! payload, as Engine API `ContainerAttach` lays them.

use crate::error::{ClientError, Result};

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard input, as echoed by some servers.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the daemon about the stream itself.
    System,
}

/// The state between two pieces of input.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; 8],
    have: usize,
    left: usize,
}

impl Demux {
    /// A demultiplexer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of payload off `input`; `None` when the input is used up.
    ///
    /// # Errors
    /// [`ClientError::Decode`] when a header names no known stream.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<(StreamKind, &'a [u8])>> {
        while self.left == 0 {
            let take = (8 - self.have).min(input.len());
            let (head, rest) = input.split_at(take);
            self.header[self.have..self.have + take].copy_from_slice(head);
            self.have += take;
            *input = rest;
            if self.have < 8 {
                return Ok(None);
            }
            self.have = 0;
            let [kind, _, _, _, a, b, c, d] = self.header;
            if kind > 3 {
                return Err(ClientError::Decode(format!(
                    "Unrecognized input header: {kind}"
                )));
            }
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        if input.is_empty() {
            return Ok(None);
        }
        let (payload, rest) = input.split_at(self.left.min(input.len()));
        self.left -= payload.len();
        *input = rest;
        Ok(Some((self.kind(), payload)))
    }

    fn kind(&self) -> StreamKind {
        match self.header[0] {
            0 => StreamKind::Stdin,
            1 => StreamKind::Stdout,
            2 => StreamKind::Stderr,
            _ => StreamKind::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text);
        frame
    }

    #[test]
    fn any_split_of_the_input_gives_the_same_streams() {
        let whole = [
            frame(1, b"hello "),
            frame(2, b"oh"),
            frame(1, b""),
            frame(1, b"world"),
        ]
        .concat();
        for size in 1..=whole.len() {
            let (mut demux, mut out, mut err) = (Demux::new(), Vec::new(), Vec::new());
            for mut piece in whole.chunks(size) {
                while let Some((kind, bytes)) = demux.next(&mut piece).unwrap() {
                    match kind {
                        StreamKind::Stdout => out.extend(bytes),
                        StreamKind::Stderr => err.extend(bytes),
                        other => panic!("{other:?}"),
                    }
                }
                assert!(piece.is_empty());
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello world"[..], &b"oh"[..]),
                "{size}"
            );
        }
    }

    #[test]
    fn a_header_of_an_unknown_stream_is_refused() {
        let mut input: &[u8] = &[9, 0, 0, 0, 0, 0, 0, 1, 0];
        assert!(Demux::new().next(&mut input).is_err());
    }
}
