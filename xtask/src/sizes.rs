//! Sizes: a file of production code has at most 800 lines, a room at most 12,000.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::source;

const FILE_LIMIT: usize = 800;
const ROOM_LIMIT: usize = 12_000;
/// Rooms that are due to be split, and how far they may grow until then.
/// TODO(rooms): the registry server becomes a room of its own.
const DUE: &[(&str, usize)] = &[("distribution", 12_500)];
/// A file that says this in its first lines is one literal table and may be longer.
const TABLE_MARK: &str = "xtask: literal table";

/// Refuses files and rooms that have grown too long.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for room in source::crates(root)? {
        let mut total = 0;
        for file in source::rust_files(&root.join("crates").join(&room).join("src"))? {
            if source::is_test_file(&file) {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            if text.lines().take(10).any(|line| line.contains(TABLE_MARK)) {
                continue;
            }
            let lines = source::production_lines(&text).count();
            total += lines;
            if lines > FILE_LIMIT {
                problems.push(format!(
                    "{}: {lines} lines, at most {FILE_LIMIT}",
                    file.display()
                ));
            }
        }
        let due = DUE.iter().find(|(name, _)| *name == room);
        let limit = due.map_or(ROOM_LIMIT, |(_, limit)| *limit);
        if total > limit {
            problems.push(format!("{room}: {total} lines, at most {limit}: split it"));
        }
    }
    Ok(problems)
}
