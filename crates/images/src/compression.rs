//! Finding out how a stream is compressed, and reading it plain. Everything is decoded in this process: no program of
//! the host or of an image ever sees an archive.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes asked of the source at a time.
const BUFFER: usize = 256 * 1024;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
    /// The .xz format.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Tells the compression by the first bytes (at least 6 where there are that many).
pub fn detect(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame may come first in a zstd stream.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        _ => Compression::Plain,
    }
}

/// Reads a stream plain, whatever its compression, which is told as well.
pub fn decompress<'a>(
    source: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let source = Peeked::new(source)?;
    let compression = detect(&source.start);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::Plain => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(source))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered(source))?),
        Compression::Xz => {
            let decoder = liblzma::bufread::XzDecoder::new_multi_decoder(buffered(source));
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(source))),
    };
    Ok((compression, plain))
}

fn buffered<R: Read>(source: R) -> impl BufRead {
    BufReader::with_capacity(BUFFER, source)
}

/// A reader whose first bytes have been looked at.
struct Peeked<R> {
    start: Vec<u8>,
    given: usize,
    rest: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut rest: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(8);
        (&mut rest).take(8).read_to_end(&mut start)?;
        Ok(Self {
            start,
            given: 0,
            rest,
        })
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.start[self.given..];
        if waiting.is_empty() {
            return self.rest.read(buffer);
        }
        let count = waiting.len().min(buffer.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_all(bytes: &[u8]) -> (Compression, Vec<u8>) {
        let (compression, mut plain) = decompress(bytes).unwrap();
        let mut out = Vec::new();
        plain.read_to_end(&mut out).unwrap();
        (compression, out)
    }

    #[test]
    fn every_format_is_told_by_its_magic_and_reads_all_members() {
        let text = b"some text that repeats, some text that repeats".repeat(100);
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let two = [gzip(&text[..100]), gzip(&text[100..])].concat();
        assert_eq!(read_all(&two), (Compression::Gzip, text.clone()));
        let frames = [
            zstd::encode_all(&text[..9], 1).unwrap(),
            zstd::encode_all(&text[9..], 1).unwrap(),
        ];
        assert_eq!(
            read_all(&frames.concat()),
            (Compression::Zstd, text.clone())
        );
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&text).unwrap();
        let xz = encoder.finish().unwrap();
        assert_eq!(read_all(&xz), (Compression::Xz, text.clone()));
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&text).unwrap();
        let bzip2 = encoder.finish().unwrap();
        assert_eq!(read_all(&bzip2), (Compression::Bzip2, text.clone()));
        assert_eq!(read_all(&text), (Compression::Plain, text));
        assert_eq!(read_all(b""), (Compression::Plain, Vec::new()));
    }
}
