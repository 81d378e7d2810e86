//! What `prune` verbs tell when they are done.

use cais_types::api::ImageDeleteItem;

use crate::cell::size4;

/// `Deleted Volumes:`, the names, and an empty line; nothing when there are none.
pub fn list(title: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("{title}\n{}\n\n", names.join("\n"))
}

/// The list of removed images.
pub fn images(items: &[ImageDeleteItem]) -> String {
    let lines: Vec<String> = items
        .iter()
        .map(|item| {
            if item.untagged.is_empty() {
                format!("deleted: {}", item.deleted)
            } else {
                format!("untagged: {}", item.untagged)
            }
        })
        .collect();
    list("Deleted Images:", &lines)
}

/// The last line.
pub fn total(bytes: u64) -> String {
    format!(
        "Total reclaimed space: {}\n",
        size4(i64::try_from(bytes).unwrap_or(i64::MAX))
    )
}
