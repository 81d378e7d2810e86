//! Reads a container's json-file log for `logs`: rotated files in order, tail from the end, time limits, following. Makes
//! whole chunks of bytes that are ready to be sent. Blocking; knows nothing of HTTP or of the container's state.

mod entry;
mod files;
mod tail;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cais_runtime::timestamp::Timestamp;
use cais_types::Framing;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use entry::{Format, Verdict};
use files::LogFiles;

/// Bytes at which a chunk is handed out.
const CHUNK: usize = 64 << 10;
/// Room for one more entry in a chunk, so that it seldom grows.
const CHUNK_SLACK: usize = 32 << 10;
/// Bytes read at once.
const READ: usize = 128 << 10;
/// A line longer than this is damaged: 16 KiB of text take 96 KiB at most, the rest is for attributes.
const LINE_LIMIT: usize = 4 << 20;
/// How often a log file that is not there yet is looked for, milliseconds.
const LOOK_AGAIN: i64 = 100;

/// What to read and how to lay it out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The current file; older ones are `path.1`, `path.2`, ...
    pub path: PathBuf,
    pub stdout: bool,
    pub stderr: bool,
    /// Entries before this time are left out.
    pub since: Option<Timestamp>,
    /// Entries after this time are left out; following ends then.
    pub until: Option<Timestamp>,
    /// Only this many lines from the end, counted over both streams before any other choice, as Docker does.
    pub tail: Option<u64>,
    /// Each entry starts with its time.
    pub timestamps: bool,
    /// Each entry starts with its extra attributes.
    pub details: bool,
    /// Goes on at the end until the container ends.
    pub follow: bool,
    pub framing: Framing,
}

/// What [`Reader::try_next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes to send.
    Chunk(Vec<u8>),
    /// Nothing now; following, so more may come.
    Wait,
    /// The end.
    End,
}

const FOLLOWING: u8 = 0;
const ENDED: u8 = 1;
const CANCELED: u8 = 2;

/// Ends a reader that follows, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    state: Arc<AtomicU8>,
    wake: Arc<OwnedFd>,
}

impl Stopper {
    /// The container has ended and its log is complete: the reader ends after the last line.
    pub fn container_ended(&self) {
        let exchange = |from| {
            self.state
                .compare_exchange(from, ENDED, Ordering::AcqRel, Ordering::Acquire)
                .ok();
        };
        exchange(FOLLOWING);
        self.wake();
    }

    /// Nobody listens any more: the reader ends at once.
    pub fn cancel(&self) {
        self.state.store(CANCELED, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Full means that it is awake already.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

/// Reads one log once.
pub struct Reader {
    files: LogFiles,
    format: Format,
    until: Option<Timestamp>,
    follow: bool,
    /// Bytes of the current file that are not lines yet.
    pending: Vec<u8>,
    /// The line at the start of `pending` is too long and is skipped up to its end.
    skipping: bool,
    stopper: Stopper,
    over: bool,
}

impl Reader {
    /// Opens the log's files and finds the place to start at. A log that does not exist is an empty one.
    pub fn open(options: Options) -> io::Result<Self> {
        let mut files = LogFiles::open(options.path.clone(), options.follow)?;
        if let Some(lines) = options.tail {
            tail::skip_to_tail(&mut files, lines)?;
        }
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            files,
            until: options.until,
            follow: options.follow,
            format: Format::new(&options),
            pending: Vec::new(),
            skipping: false,
            stopper: Stopper {
                state: Arc::new(AtomicU8::new(FOLLOWING)),
                wake: Arc::new(wake),
            },
            over: false,
        })
    }

    /// A handle that ends this reader.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Becomes readable when the log has changed; for asynchronous callers of [`Reader::try_next`], who look again from time to
    /// time as well, because a log that does not exist yet tells nothing. Empty when not following.
    pub fn notification(&self) -> Option<BorrowedFd<'_>> {
        self.files.notification()
    }

    /// The next bytes to send, waiting for them when following; `None` at the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.try_next()? {
                Next::Chunk(chunk) => return Ok(Some(chunk)),
                Next::End => return Ok(None),
                Next::Wait => self.wait()?,
            }
        }
    }

    /// The next bytes to send, if there are any now.
    pub fn try_next(&mut self) -> io::Result<Next> {
        let mut chunk = Vec::new();
        while !self.over {
            // Asked for before reading: what was written before the end is read after this.
            let state = self.stopper.state.load(Ordering::Acquire);
            if state == CANCELED {
                return Ok(Next::End);
            }
            let time_is_over = self.until.is_some_and(|until| Timestamp::now() > until);
            if self.fill(&mut chunk)? {
                if chunk.len() >= CHUNK {
                    return Ok(Next::Chunk(chunk));
                }
                continue;
            }
            self.over |= !self.follow || state == ENDED || time_is_over;
            if !chunk.is_empty() {
                return Ok(Next::Chunk(chunk));
            }
            if !self.over {
                self.pending.shrink_to_fit();
                return Ok(Next::Wait);
            }
        }
        Ok(if chunk.is_empty() {
            Next::End
        } else {
            Next::Chunk(chunk)
        })
    }

    /// Takes lines into the chunk, from what was read or else from the file; false when there is nothing to read.
    fn fill(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
        let from = self.pending.len();
        self.pending.resize(from + READ, 0);
        let result = self.files.read(&mut self.pending[from..]);
        let step = match result {
            Ok(step) => step,
            Err(error) => {
                self.pending.truncate(from);
                return Err(error);
            }
        };
        match step {
            files::Step::Bytes(count) => {
                self.pending.truncate(from + count);
                self.take_lines(from, chunk);
                Ok(true)
            }
            files::Step::NextFile => {
                self.pending.truncate(from);
                self.take_last_line(chunk);
                Ok(true)
            }
            files::Step::End => {
                self.pending.truncate(from);
                if !self.follow {
                    self.take_last_line(chunk);
                }
                Ok(false)
            }
        }
    }

    /// Takes every whole line out of `pending`; the bytes before `from` are known to hold no line end.
    fn take_lines(&mut self, from: usize, chunk: &mut Vec<u8>) {
        chunk.reserve(self.pending.len() + CHUNK_SLACK);
        let mut start = 0;
        let mut search = from;
        while let Some(length) = memchr::memchr(b'\n', &self.pending[search..]) {
            let end = search + length;
            let skipped = std::mem::take(&mut self.skipping);
            if !skipped && self.format.push(&self.pending[start..end], chunk) == Verdict::Past {
                self.over = true;
                return;
            }
            start = end + 1;
            search = start;
        }
        self.pending.drain(..start);
        if self.pending.len() > LINE_LIMIT {
            self.pending.clear();
            self.skipping = true;
        }
    }

    /// A last line without line end is taken when it is whole otherwise.
    fn take_last_line(&mut self, chunk: &mut Vec<u8>) {
        if !self.skipping && self.format.push(&self.pending, chunk) == Verdict::Past {
            self.over = true;
        }
        self.skipping = false;
        self.pending = Vec::new();
    }

    fn wait(&self) -> io::Result<()> {
        let mut timeout = -1;
        let mut polled = vec![PollFd::from_borrowed_fd(
            self.stopper.wake.as_fd(),
            PollFlags::IN,
        )];
        match self.files.notification() {
            Some(descriptor) if self.files.is_current() => {
                polled.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
            }
            _ => timeout = LOOK_AGAIN,
        }
        if let Some(until) = self.until {
            let left = (until.seconds - Timestamp::now().seconds + 1).clamp(0, 3600) * 1000;
            timeout = if timeout < 0 { left } else { timeout.min(left) };
        }
        let limit = Timespec {
            tv_sec: timeout / 1000,
            tv_nsec: timeout % 1000 * 1_000_000,
        };
        match rustix::event::poll(&mut polled, (timeout >= 0).then_some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
