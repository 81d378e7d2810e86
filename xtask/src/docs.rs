//! Documents: every source file opens with `//!`, and every room and make target that README.md and ARCHITECTURE.md name exists.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::source;

/// Refuses source files without an opening line, rooms that ARCHITECTURE.md forgets, and links to files that are not there.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    for room in source::crates(root)? {
        if !map.contains(&format!("`{room}`")) {
            problems.push(format!("ARCHITECTURE.md does not name the room {room}"));
        }
        for file in source::rust_files(&root.join("crates").join(&room).join("src"))? {
            if !fs::read_to_string(&file)?.starts_with("//!") {
                problems.push(format!(
                    "{}: say in a first //! line what lives here",
                    file.display()
                ));
            }
        }
    }
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        let text = fs::read_to_string(root.join(page))?;
        problems.extend(
            links(&text)
                .filter(|link| !root.join(link).exists())
                .map(|link| format!("{page}: no such file: {link}")),
        );
    }
    Ok(problems)
}

/// Targets of Markdown links that are paths of the project.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?;
        let target = target.split('#').next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}
