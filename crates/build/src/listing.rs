//! How a client sends contexts of which the daemon may have most files from builds before: first a list of what there is,
//! then, once the daemon has said what it lacks, archives of that. One body holds all of it, in sections; the daemon's word is
//! the first message of its answer.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The type of such a body.
pub const MEDIA_TYPE: &str = "application/vnd.cais.contexts";
/// The most bytes of a list.
const MAX: u64 = 1 << 30;
/// The most bytes of a piece of a section.
const PIECE: usize = 256 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    File,
    Directory,
    Link,
}

/// A file, directory or link of a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From the root of the context, without `.` and `..`.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Another number whenever the entry may have changed; 0 for one that is always sent.
    pub stamp: u64,
}

/// A context as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its name in FROM and `--from`; empty for the one that COPY takes files from.
    pub name: String,
    /// The same for every build from this directory, 64 hexadecimal digits.
    pub key: String,
    /// A directory before what is in it.
    pub entries: Vec<Entry>,
}

/// Numbers of entries that are wanted, from one to before another.
pub type Ranges = Vec<(usize, usize)>;

/// Reads the first section of a body.
///
/// # Errors
/// Those of the stream, and a list that cannot be read.
pub fn read(body: &mut impl Read) -> io::Result<Vec<Listing>> {
    let mut bytes = Vec::new();
    let mut section = Section::new(body);
    section.by_ref().take(MAX).read_to_end(&mut bytes)?;
    section.finish()?;
    postcard::from_bytes(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the first section of a body.
///
/// # Errors
/// Those of the stream.
pub fn write(listings: &[Listing], body: &mut impl Write) -> io::Result<()> {
    let bytes = postcard::to_stdvec(listings).map_err(io::Error::other)?;
    let mut section = SectionWriter::new(body);
    section.write_all(&bytes)?;
    section.finish()
}

/// One section of a body, read to its end.
pub struct Section<'a, R> {
    body: &'a mut R,
    left: usize,
    ended: bool,
}

impl<'a, R: Read> Section<'a, R> {
    /// The section that begins here.
    pub fn new(body: &'a mut R) -> Self {
        Self {
            body,
            left: 0,
            ended: false,
        }
    }

    /// Reads what nobody wanted of it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for Section<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut length = [0; 4];
            self.body.read_exact(&mut length)?;
            self.left = u32::from_le_bytes(length) as usize;
            self.ended = self.left == 0;
        }
        let most = buffer.len().min(self.left);
        if most == 0 {
            return Ok(0);
        }
        let count = self.body.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

/// A section that is being written: pieces with their lengths before them (`u32`, little-endian), and a length of 0.
pub struct SectionWriter<'a, W> {
    body: &'a mut W,
    piece: Vec<u8>,
}

impl<'a, W: Write> SectionWriter<'a, W> {
    /// A section that begins here.
    pub fn new(body: &'a mut W) -> Self {
        Self {
            body,
            piece: Vec::with_capacity(PIECE),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.body.write_all(&[0; 4])
    }
}

impl<W: Write> Write for SectionWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.piece.len()).map_err(io::Error::other)?;
        self.body.write_all(&length.to_le_bytes())?;
        self.body.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_sections_come_as_they_were_sent() {
        let listing = Listing {
            name: "docs".to_owned(),
            key: "k".to_owned(),
            entries: vec![Entry {
                path: b"a\xff".to_vec(),
                kind: Kind::Link,
                stamp: u64::MAX,
            }],
        };
        let mut body = Vec::new();
        write(std::slice::from_ref(&listing), &mut body).unwrap();
        let long = vec![7; PIECE + 1];
        for part in [&long[..], b"", b"short"] {
            let mut section = SectionWriter::new(&mut body);
            section.write_all(part).unwrap();
            section.finish().unwrap();
        }
        let mut body = &body[..];
        assert_eq!(read(&mut body).unwrap(), [listing]);
        for part in [&long[..], b"", b"short"] {
            let mut have = Vec::new();
            Section::new(&mut body).read_to_end(&mut have).unwrap();
            assert_eq!(have, part);
        }
        assert!(
            Section::new(&mut body)
                .read_to_end(&mut Vec::new())
                .is_err()
        );
    }
}
