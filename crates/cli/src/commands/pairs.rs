//! `key=value` flags of verbs that make things.

use std::collections::BTreeMap;

/// The pairs of flags; a bare key has an empty value, the last one of a key wins.
pub fn map(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}
