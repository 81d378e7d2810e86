//! The user's terminal: its size, raw mode that is always undone, and whether there is one.

use std::os::fd::AsFd;

use rustix::termios::{self, OptionalActions, Termios};

/// Height and width in characters; `None` when it is no terminal or does not know.
pub fn size(terminal: &impl AsFd) -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: &impl AsFd) -> bool {
    termios::isatty(fd)
}

/// Standard input in raw mode; dropping it puts the old mode back.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode; `None` when it is no terminal.
    pub fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _gone = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Standard input without echo; dropping it puts the old mode back.
pub struct HiddenInput {
    before: Termios,
}

impl HiddenInput {
    /// Switches echo off; `None` when standard input is no terminal.
    pub fn begin() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &hidden).ok()?;
        Some(Self { before })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _gone = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The bytes of a key sequence such as `ctrl-p,ctrl-q`; an empty text is that sequence.
///
/// # Errors
/// Docker's text for a key nobody has.
pub fn detach_sequence(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(vec![16, 17]);
    }
    text.split(',').map(key).collect()
}

fn key(name: &str) -> Result<u8, String> {
    let unknown = || format!("Unknown character: '{name}'");
    if let [byte] = name.as_bytes() {
        return Ok(*byte);
    }
    match name.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
        Some(b"@") => Ok(0),
        Some(b"[") => Ok(27),
        Some(b"\\") => Ok(28),
        Some(b"]") => Ok(29),
        Some(b"^") => Ok(30),
        Some(b"_") => Ok(31),
        _ => Err(unknown()),
    }
}

/// Looks for the detach sequence in what is typed.
#[derive(Debug)]
pub struct DetachScanner {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachScanner {
    /// A scanner for a sequence.
    pub fn new(sequence: Vec<u8>) -> Self {
        Self {
            sequence,
            matched: 0,
        }
    }

    /// What may be passed on of `input`, and whether the sequence was completed. Keys that may be its beginning are held
    /// back until it is clear.
    pub fn scan(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len() + self.matched);
        for &byte in input {
            if self.sequence.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(self.sequence.first() == Some(&byte));
            if self.matched == 0 {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        assert_eq!(detach_sequence("").unwrap(), [16, 17]);
        assert_eq!(detach_sequence("ctrl-a,x,ctrl-]").unwrap(), [1, b'x', 29]);
        assert_eq!(
            detach_sequence("ctrl-A").unwrap_err(),
            "Unknown character: 'ctrl-A'"
        );
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_half_of_it_is_passed_on() {
        let mut scanner = DetachScanner::new(vec![16, 17]);
        assert_eq!(scanner.scan(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(scanner.scan(&[16]), (vec![], false));
        assert_eq!(scanner.scan(b"c"), (vec![16, b'c'], false));
        assert_eq!(scanner.scan(&[16, 16]), (vec![16], false));
        assert_eq!(scanner.scan(&[17]), (vec![], true));
    }
}
