//! Forgotten tests: every file below a crate's `tests/` directory must be reachable from its one test binary.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::source;

/// Refuses test files that no `mod` names, and a second test binary in a crate.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for room in source::crates(root)? {
        let directory = root.join("crates").join(&room).join("tests");
        if !directory.exists() {
            continue;
        }
        let files = source::rust_files(&directory)?;
        let all: String = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect();
        for file in &files {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let top = file.parent() == Some(directory.as_path());
            if top && name == "main" {
                continue;
            }
            let module = if name == "mod" {
                file.parent()
                    .and_then(Path::file_name)
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            } else {
                name
            };
            if !all.contains(&format!("mod {module};")) {
                problems.push(format!(
                    "{}: no test binary names this file",
                    file.display()
                ));
            }
        }
    }
    Ok(problems)
}
