//! From `HostConfig.LogConfig` to what the monitor writes: Docker's json-file with its options. Rotated by default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cais_monitor::protocol::Log;
use cais_types::{Error, Result};

use crate::record::Record;

/// Size after which a log is rotated unless the user says otherwise, bytes.
const MAX_SIZE: u64 = 10 << 20;
/// Files kept unless the user says otherwise.
const MAX_FILES: u32 = 3;

/// Where the log of a container is.
pub fn path(record: &Record, directory: &Path) -> PathBuf {
    directory.join(format!("{}-json.log", record.id))
}

/// Where a container's output goes.
///
/// # Errors
/// `max-size` or `max-file` that does not parse.
pub fn target(record: &Record, directory: &Path) -> Result<Log> {
    let log = &record.host_config.log_config;
    if log.r#type == "none" {
        return Ok(Log::None);
    }
    let max_size = match log.config.get("max-size").map(String::as_str) {
        None => MAX_SIZE,
        Some("-1") => 0,
        Some(text) => parse_size(text).ok_or_else(|| {
            Error::invalid(format!(
                "error creating json-file log driver: invalid size: '{text}'"
            ))
        })?,
    };
    let max_files =
        match log.config.get("max-file") {
            // A size without a number of files keeps one file in Docker.
            None if log.config.contains_key("max-size") => 1,
            None => MAX_FILES,
            Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                Error::invalid(format!("max-file cannot be less than 1: \"{text}\""))
            })?,
        };
    Ok(Log::JsonFile {
        path: path(record, directory),
        max_size,
        max_files,
        attributes: attributes(record),
    })
}

/// `10m`, `1g`, `512k`, `100`: powers of 1024, as Docker's `units.RAMInBytes`.
fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[number.len()..]
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Labels and variables that `labels` and `env` name, and the tag.
fn attributes(record: &Record) -> BTreeMap<String, String> {
    let options = &record.host_config.log_config.config;
    let mut attributes = BTreeMap::new();
    let named = |option: &str| options.get(option).map(String::as_str).unwrap_or_default();
    for name in named("labels").split(',').map(str::trim) {
        if let Some(value) = record.config.labels.get(name) {
            attributes.insert(name.to_owned(), value.clone());
        }
    }
    for name in named("env")
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let found = record
            .config
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='));
        for (key, value) in found.filter(|(key, _)| *key == name) {
            attributes.insert(key.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = options.get("tag") {
        attributes.insert("tag".to_owned(), tag.clone());
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, size) in [
            ("100", 100),
            ("1k", 1024),
            ("10M", 10 << 20),
            ("2gb", 2 << 30),
            ("1MiB", 1 << 20),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for bad in ["", "x", "-5m", "10q"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
