//! Writer of Docker's json-file log: cuts output into lines, writes whole batches, rotates by size. A full disk costs log
//! lines and nothing else: the container neither waits nor ends, and one line in the log tells how many were lost.

mod encode;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cais_runtime::timestamp::Timestamp;

pub use encode::{OutputStream, push_escaped};

/// Longest text in one log line, bytes; what is longer is cut (Docker's copier uses the same size).
pub const LINE_LIMIT: usize = 16 << 10;

const BATCH: usize = 256 << 10;
const IDLE_BUFFER: usize = 4 << 10;
const LINE_START: &[u8] = b"{\"log\":\"";

/// An open log.
pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// Bytes after which a file is rotated; 0 for never.
    max_size: u64,
    max_files: u32,
    attributes: Vec<u8>,
    /// Lines that are not written yet.
    batch: Vec<u8>,
    partial: [Partial; 2],
    lost: Option<Loss>,
}

/// A line of which the end has not come yet.
#[derive(Default)]
struct Partial {
    held: Vec<u8>,
    /// When the first piece of a line longer than [`LINE_LIMIT`] was written; all its pieces carry that time.
    cut_at: Option<Timestamp>,
}

struct Loss {
    lines: u64,
    reason: io::Error,
}

impl LogWriter {
    /// Opens or makes the log, mode 0640. A file that cannot be opened now is tried again at each write.
    pub fn open(
        path: PathBuf,
        max_size: u64,
        max_files: u32,
        attributes: &BTreeMap<String, String>,
    ) -> Self {
        let mut log = Self {
            path,
            file: None,
            size: 0,
            max_size,
            max_files: max_files.max(1),
            attributes: encode::encode_attributes(attributes),
            batch: Vec::new(),
            partial: Default::default(),
            lost: None,
        };
        if let Err(reason) = log.open_file() {
            log.lost = Some(Loss { lines: 0, reason });
        }
        log
    }

    /// Takes output as it was read at `now` and writes the lines that are complete, in as few writes as possible.
    pub fn write(&mut self, stream: OutputStream, mut data: &[u8], now: Timestamp) {
        let mut tail = Vec::with_capacity(128);
        encode::push_tail(&mut tail, stream, &self.attributes, now);
        while !data.is_empty() {
            let partial = &mut self.partial[stream.index()];
            let room = (LINE_LIMIT - partial.held.len()).min(data.len());
            let Some(end) = memchr::memchr(b'\n', &data[..room]) else {
                partial.held.extend_from_slice(&data[..room]);
                data = &data[room..];
                if self.partial[stream.index()].held.len() == LINE_LIMIT {
                    self.cut(stream, now);
                }
                continue;
            };
            if partial.held.is_empty() && partial.cut_at.is_none() {
                self.batch.extend_from_slice(LINE_START);
                push_escaped(&mut self.batch, &data[..end]);
                self.batch.extend_from_slice(b"\\n");
                self.batch.extend_from_slice(&tail);
            } else {
                self.finish_line(stream, &data[..=end], now);
            }
            data = &data[end + 1..];
            self.flush_if_due(now);
        }
        self.flush(now);
    }

    /// Writes what is left of a last line without line end.
    pub fn end_of_stream(&mut self, stream: OutputStream, now: Timestamp) {
        if !self.partial[stream.index()].held.is_empty() {
            self.finish_line(stream, b"", now);
        }
        self.partial[stream.index()] = Partial::default();
        self.flush(now);
    }

    /// Gives memory back that an idle log does not need.
    pub fn release_memory(&mut self) {
        if self.batch.capacity() > IDLE_BUFFER {
            self.batch = Vec::new();
        }
        for partial in &mut self.partial {
            if partial.held.capacity() > IDLE_BUFFER {
                partial.held.shrink_to_fit();
            }
        }
    }

    fn finish_line(&mut self, stream: OutputStream, rest: &[u8], now: Timestamp) {
        let partial = &mut self.partial[stream.index()];
        let time = partial.cut_at.take().unwrap_or(now);
        self.batch.extend_from_slice(LINE_START);
        // One call for both pieces: a character may span them.
        partial.held.extend_from_slice(rest);
        push_escaped(&mut self.batch, &partial.held);
        partial.held.clear();
        encode::push_tail(&mut self.batch, stream, &self.attributes, time);
    }

    /// Writes a full [`LINE_LIMIT`] of a longer line. A character at the border is kept whole for the next piece.
    fn cut(&mut self, stream: OutputStream, now: Timestamp) {
        let partial = &mut self.partial[stream.index()];
        let time = *partial.cut_at.get_or_insert(now);
        let keep = incomplete_character(&partial.held);
        let split = partial.held.len() - keep;
        self.batch.extend_from_slice(LINE_START);
        push_escaped(&mut self.batch, &partial.held[..split]);
        partial.held.drain(..split);
        encode::push_tail(&mut self.batch, stream, &self.attributes, time);
        self.flush_if_due(now);
    }

    fn flush_if_due(&mut self, now: Timestamp) {
        let pending = self.batch.len();
        let full = self.max_size > 0 && self.size + pending as u64 >= self.max_size;
        if full || pending >= BATCH {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: Timestamp) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(reason) = self.write_batch(now) {
            let lines = memchr::memchr_iter(b'\n', &self.batch).count() as u64;
            let loss = self.lost.get_or_insert(Loss { lines: 0, reason });
            loss.lines += lines;
        }
        self.batch.clear();
    }

    /// Writes the batch; on failure, the batch holds the lines that are not in the file.
    fn write_batch(&mut self, now: Timestamp) -> io::Result<()> {
        self.open_file()?;
        if self.max_size > 0 && self.size >= self.max_size {
            self.rotate()?;
        }
        if let Some(loss) = &self.lost
            && loss.lines > 0
        {
            let notice = self.loss_notice(loss, now);
            self.append(&notice).map_err(|(error, _)| error)?;
        }
        self.lost = None;
        let batch = std::mem::take(&mut self.batch);
        let result = self.append(&batch);
        self.batch = batch;
        result.map_err(|(error, written)| {
            self.batch.drain(..written);
            error
        })
    }

    fn loss_notice(&self, loss: &Loss, now: Timestamp) -> Vec<u8> {
        let mut notice = LINE_START.to_vec();
        let text = format!(
            "cais: {} log lines were lost: {}\n",
            loss.lines, loss.reason
        );
        push_escaped(&mut notice, text.as_bytes());
        encode::push_tail(&mut notice, OutputStream::Stderr, &self.attributes, now);
        notice
    }

    /// Appends whole lines. On failure no part of a line stays in the file; the answer tells how many bytes did.
    fn append(&mut self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let Some(file) = &mut self.file else {
            return Err((io::ErrorKind::NotFound.into(), 0));
        };
        let mut written = 0;
        while written < lines.len() {
            match file.write(&lines[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let error = result.err().unwrap_or(io::ErrorKind::WriteZero.into());
                    let whole = memchr::memrchr(b'\n', &lines[..written]).map_or(0, |end| end + 1);
                    self.size += whole as u64;
                    if whole < written {
                        // Best effort: a reader skips a line that was cut.
                        file.set_len(self.size).ok();
                    }
                    return Err((error, whole));
                }
            }
        }
        self.size += written as u64;
        Ok(())
    }

    fn open_file(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        self.file = Some(file);
        if last != *b"\n" {
            // A crash cut the last line; the next one must not join it.
            self.append(b"\n").map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// `path` becomes `path.1`, and so on; the oldest file goes. With one file, that file starts anew.
    fn rotate(&mut self) -> io::Result<()> {
        if self.max_files == 1 {
            if let Some(file) = &self.file {
                file.set_len(0)?;
            }
            self.size = 0;
            return Ok(());
        }
        for number in (1..self.max_files - 1).rev() {
            rename_if_there(
                &rotated(&self.path, number),
                &rotated(&self.path, number + 1),
            )?;
        }
        rename_if_there(&self.path, &rotated(&self.path, 1))?;
        self.file = None;
        self.open_file()
    }
}

/// The path of an older log file; 1 is the youngest of them.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Length of the start of a UTF-8 character at the end of `bytes` that may be completed by what follows; 0 to 3.
fn incomplete_character(bytes: &[u8]) -> usize {
    for length in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - length];
        if byte & 0b1100_0000 == 0b1000_0000 {
            continue;
        }
        let wanted = match byte {
            0b1100_0010..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0100 => 4,
            _ => 1,
        };
        return if wanted > length { length } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests;
