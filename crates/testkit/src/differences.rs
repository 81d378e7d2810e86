//! Differences that are meant: a table of lines that one side has and the other has not, each with its reason. A difference
//! that the table doesn't have is a failure, and so is one in the table that is none any more.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// One row: `case | peer | -line or +line | reason`; a `*` at the end of the first three stands for anything.
#[derive(Debug)]
struct Row {
    case: String,
    peer: String,
    line: String,
}

/// The table, and which of its rows were seen.
#[derive(Debug)]
pub struct Differences {
    rows: Vec<Row>,
    seen: Mutex<BTreeSet<usize>>,
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

impl Differences {
    /// Reads a table; lines that begin with `#` are none of it.
    ///
    /// # Panics
    /// When a row has not four parts, or no reason.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty());
        let row = |line: &str| {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            assert!(
                parts.len() == 4 && !parts[3].is_empty(),
                "not a row: {line}"
            );
            Row {
                case: parts[0].to_owned(),
                peer: parts[1].to_owned(),
                line: parts[2].to_owned(),
            }
        };
        Self {
            rows: lines
                .filter(|line| !line.starts_with('#'))
                .map(row)
                .collect(),
            seen: Mutex::default(),
        }
    }

    /// What the table doesn't explain: lines of the peer that are missing (`-`) and lines that the peer has not (`+`).
    ///
    /// # Panics
    /// When another thread did while it compared.
    pub fn unexplained(
        &self,
        case: &str,
        peer: &str,
        want: &[String],
        got: &[String],
    ) -> Vec<String> {
        let missing = want.iter().filter(|line| !got.contains(line));
        let more = got.iter().filter(|line| !want.contains(line));
        let lines = missing.map(|line| format!("-{line}"));
        let mut lines: Vec<String> = lines.chain(more.map(|line| format!("+{line}"))).collect();
        if lines.is_empty() && want != got {
            lines.push("+another order".to_owned());
        }
        lines.retain(|line| {
            let explains = |row: &Row| {
                matches(&row.case, case) && matches(&row.peer, peer) && matches(&row.line, line)
            };
            let mut found = false;
            for (number, _) in self
                .rows
                .iter()
                .enumerate()
                .filter(|(_, row)| explains(row))
            {
                found = true;
                self.seen
                    .lock()
                    .expect("no comparison panics")
                    .insert(number);
            }
            !found
        });
        lines
    }

    /// Rows that explained nothing.
    ///
    /// # Panics
    /// When another thread did while it compared.
    pub fn unused(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no comparison panics");
        let rows = self.rows.iter().enumerate();
        rows.filter(|(number, _)| !seen.contains(number))
            .map(|(_, row)| format!("{} | {} | {}", row.case, row.peer, row.line))
            .collect()
    }
}
