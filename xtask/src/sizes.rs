//! Sizes: a file of production code has at most 800 lines, a room at most 12,000.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::source;

const FILE_LIMIT: usize = 800;
const ROOM_LIMIT: usize = 12_000;
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
        if total > ROOM_LIMIT {
            problems.push(format!(
                "{room}: {total} lines, at most {ROOM_LIMIT}: split it"
            ));
        }
    }
    Ok(problems)
}
