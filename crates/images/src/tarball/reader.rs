//! Reads a tar stream entry by entry without copying payloads: the caller looks into the buffer of the source.

use std::io::{BufRead, ErrorKind};

use super::header::{BLOCK, Extensions, Header, pax_records, text};
use super::split::Recorder;
use super::{Entry, Kind};
use crate::error::TarError;

/// Longest extended header or long name taken, as Go's archive/tar.
const SPECIAL_MAX: u64 = 1024 * 1024;

/// A tar stream being read.
pub struct TarReader<R> {
    input: R,
    recorder: Option<Recorder>,
    /// Payload bytes of the current entry not read yet.
    payload: u64,
    /// Zero bytes that fill up the last block of the current entry.
    padding: u64,
    /// Whether payload bytes are left out of the record: a reference stands for them.
    referenced: bool,
    ended: bool,
}

impl<R: BufRead> TarReader<R> {
    /// Starts at the first header.
    pub fn new(input: R) -> Self {
        Self {
            input,
            recorder: None,
            payload: 0,
            padding: 0,
            referenced: false,
            ended: false,
        }
    }

    /// Records all bytes but referenced payloads, see [`Recorder`].
    pub fn recording(input: R, recorder: Recorder) -> Self {
        Self {
            recorder: Some(recorder),
            ..Self::new(input)
        }
    }

    /// The next entry, with what is left of the current one skipped; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        let mut pending = false;
        loop {
            self.skip_rest()?;
            let Some(block) = self.block()? else {
                return if pending {
                    Err(TarError::UnexpectedEof)
                } else {
                    Ok(None)
                };
            };
            let header = Header::new(&block)?;
            match header.flag() {
                b'x' => extensions.pax = pax_records(&self.special(&header)?)?,
                // Global headers are read for their format and not applied, as Docker does.
                b'g' => drop(pax_records(&self.special(&header)?)?),
                b'L' => extensions.gnu_path = Some(text(&self.special(&header)?).to_vec()),
                b'K' => extensions.gnu_link = Some(text(&self.special(&header)?).to_vec()),
                _ => {
                    let entry = header.entry(extensions)?;
                    if entry.kind == Kind::Other(b'S') {
                        return Err(TarError::Kind('S', entry.shown()));
                    }
                    self.begin_payload(entry.size)?;
                    return Ok(Some(entry));
                }
            }
            pending |= header.flag() != b'g';
        }
    }

    /// Some payload bytes of the current entry that are in memory; empty at its end. Tell with
    /// [`TarReader::consume`] how many were used.
    pub fn payload(&mut self) -> Result<&[u8], TarError> {
        if self.payload == 0 {
            return Ok(&[]);
        }
        let bytes = fill(&mut self.input)?;
        if bytes.is_empty() {
            return Err(TarError::UnexpectedEof);
        }
        let count = usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
        Ok(&bytes[..count])
    }

    /// Marks payload bytes as used.
    pub fn consume(&mut self, count: usize) -> Result<(), TarError> {
        if !self.referenced {
            self.record(count)?;
        }
        self.input.consume(count);
        self.payload -= count as u64;
        Ok(())
    }

    /// Leaves the payload of the current entry out of the record: it will be found at `path` in the layer.
    pub fn reference_payload(&mut self, path: &[u8]) -> Result<(), TarError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.payload(self.payload, path)?;
        }
        self.referenced = true;
        Ok(())
    }

    /// The record, when there is one.
    pub fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    /// Reads what follows the end of the archive up to the end of the stream, and gives the source back.
    pub fn finish(mut self) -> Result<(R, Option<Recorder>), TarError> {
        loop {
            let count = fill(&mut self.input)?.len();
            if count == 0 {
                return Ok((self.input, self.recorder));
            }
            self.record(count)?;
            self.input.consume(count);
        }
    }

    fn begin_payload(&mut self, size: u64) -> Result<(), TarError> {
        if size > i64::MAX as u64 - BLOCK as u64 {
            return Err(TarError::Header("size"));
        }
        self.payload = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        self.referenced = false;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        while self.payload > 0 {
            let count = self.payload()?.len();
            self.consume(count)?;
        }
        while self.padding > 0 {
            let available = fill(&mut self.input)?.len();
            if available == 0 {
                return Err(TarError::UnexpectedEof);
            }
            let count = available.min(usize::try_from(self.padding).unwrap_or(BLOCK));
            self.record(count)?;
            self.input.consume(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// The payload of an extension entry.
    fn special(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > SPECIAL_MAX {
            return Err(TarError::Limit(format!("extended header of {size} bytes")));
        }
        self.begin_payload(size)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while self.payload > 0 {
            let part = self.payload()?;
            bytes.extend_from_slice(part);
            let count = part.len();
            self.consume(count)?;
        }
        Ok(bytes)
    }

    /// The next block that is not the end mark.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        if !self.read_block(&mut block)? {
            self.ended = true;
            return Ok(None);
        }
        if block.iter().any(|b| *b != 0) {
            return Ok(Some(block));
        }
        self.ended = true;
        if self.read_block(&mut block)? && block.iter().any(|b| *b != 0) {
            return Err(TarError::Header("lone zero block"));
        }
        Ok(None)
    }

    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut have = 0;
        while have < BLOCK {
            let bytes = fill(&mut self.input)?;
            if bytes.is_empty() {
                return if have == 0 {
                    Ok(false)
                } else {
                    Err(TarError::UnexpectedEof)
                };
            }
            let count = bytes.len().min(BLOCK - have);
            block[have..have + count].copy_from_slice(&bytes[..count]);
            have += count;
            self.record(count)?;
            self.input.consume(count);
        }
        Ok(true)
    }

    fn record(&mut self, count: usize) -> Result<(), TarError> {
        if let Some(recorder) = &mut self.recorder {
            let bytes = fill(&mut self.input)?;
            recorder.raw(&bytes[..count])?;
        }
        Ok(())
    }
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8], TarError> {
    // The loop of `BufRead::fill_buf` with EINTR handled would borrow twice; asking again afterwards is free.
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(input.fill_buf()?)
}

/// The payload of the current entry as a [`std::io::Read`].
pub struct PayloadReader<'a, R>(pub &'a mut TarReader<R>);

impl<R: BufRead> std::io::Read for PayloadReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let into_io = |error| match error {
            TarError::UnexpectedEof => std::io::Error::from(ErrorKind::UnexpectedEof),
            TarError::Stream(error) => error,
            other => std::io::Error::other(other.to_string()),
        };
        let bytes = self.0.payload().map_err(into_io)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.0.consume(count).map_err(into_io)?;
        Ok(count)
    }
}
