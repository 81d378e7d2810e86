//! Finds the last lines of a log from its end, without reading what is before them.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::files::{LogFile, LogFiles};

const BLOCK: u64 = 64 << 10;

/// Moves the start of reading so that only the last `lines` lines are left, over as many files as that takes.
pub fn skip_to_tail(files: &mut LogFiles, lines: u64) -> io::Result<()> {
    let mut left = lines;
    for index in (0..files.open.len()).rev() {
        let size = files.open[index].file.metadata()?.len();
        match start_of_last(&files.open[index], size, left)? {
            Found::Start(position) => {
                files.open[index].position = position;
                files.open.drain(..index);
                return Ok(());
            }
            Found::Fewer(count) => left -= count,
        }
    }
    Ok(())
}

enum Found {
    /// Where the last lines begin.
    Start(u64),
    /// The file holds no more than so many lines.
    Fewer(u64),
}

fn start_of_last(file: &LogFile, size: u64, lines: u64) -> io::Result<Found> {
    let mut block = vec![0; usize::try_from(BLOCK).map_err(io::Error::other)?];
    let mut end = size;
    let mut seen = 0;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let part = &mut block[..usize::try_from(end - begin).map_err(io::Error::other)?];
        file.file.read_exact_at(part, begin)?;
        for position in memchr::memrchr_iter(b'\n', part) {
            if seen == lines {
                return Ok(Found::Start(begin + position as u64 + 1));
            }
            seen += 1;
        }
        end = begin;
    }
    if seen == lines && seen > 0 {
        return Ok(Found::Start(0));
    }
    Ok(Found::Fewer(seen))
}
