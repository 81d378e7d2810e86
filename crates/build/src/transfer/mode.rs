//! `--chmod`: octal digits, or symbolic as chmod(1) reads it (`u=rwX,go=r`).

use cais_types::{Error, Result};

/// A change of modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// One part between commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Mask of the bits of those who are meant.
    who: u32,
    actions: Vec<(char, String)>,
}

/// Reads a mode.
pub fn parse(text: &str) -> Result<ModeChange> {
    let bad = || {
        Error::invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
    };
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
        return (mode <= 0o7777)
            .then_some(ModeChange::Octal(mode))
            .ok_or_else(bad);
    }
    let clauses: Option<Vec<Clause>> = text.split(',').map(clause).collect();
    clauses.map(ModeChange::Symbolic).ok_or_else(bad)
}

fn clause(text: &str) -> Option<Clause> {
    let end = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..end].chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if end == 0 {
        who = 0o7777;
    }
    let mut actions: Vec<(char, String)> = Vec::new();
    for letter in text[end..].chars() {
        match letter {
            '+' | '-' | '=' => actions.push((letter, String::new())),
            'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o' => {
                actions.last_mut()?.1.push(letter);
            }
            _ => return None,
        }
    }
    Some(Clause { who, actions })
}

impl ModeChange {
    /// The bits of a file or directory that had `mode`.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mode = mode & 0o7777;
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mut mode: u32, is_directory: bool) -> u32 {
        for (action, letters) in &self.actions {
            let mut bits = 0;
            for letter in letters.chars() {
                bits |= match letter {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if is_directory || mode & 0o111 != 0 => 0o111,
                    's' => 0o6000,
                    't' => 0o1000,
                    'u' => copied(mode >> 6),
                    'g' => copied(mode >> 3),
                    'o' => copied(mode),
                    _ => 0,
                };
            }
            let bits = bits & self.who;
            mode = match action {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !(self.who & 0o777)) | bits,
            };
        }
        mode
    }
}

/// Three bits for everybody.
fn copied(bits: u32) -> u32 {
    (bits & 0o7) * 0o111
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_chmod_reads_them() {
        for (text, before, is_directory, after) in [
            ("755", 0o644, false, 0o755),
            ("0600", 0o644, false, 0o600),
            ("u=rwx,go=r", 0o000, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
        ] {
            let change = parse(text).unwrap();
            assert_eq!(change.apply(before, is_directory), after, "{text}");
        }
        for text in ["", "9", "77777", "x", "u", "u=z", "q+r"] {
            parse(text).unwrap_err();
        }
    }
}
