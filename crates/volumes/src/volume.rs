//! What a volume is, and which names and filters are allowed.

use std::collections::{BTreeMap, BTreeSet};

use cais_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::error::VolumeError;

/// Label of volumes that were made without a name, as Docker sets it.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What is asked of a new volume.
#[derive(Clone, Debug, Default)]
pub struct VolumeRequest {
    /// Empty for an anonymous volume.
    pub name: String,
    /// Empty means `local`.
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    /// `type`, `o` and `device` of the local driver.
    pub options: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    /// The directory on the host.
    pub mountpoint: String,
    /// RFC 3339, UTC, whole seconds.
    pub created: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Containers that use it.
    pub users: BTreeSet<ContainerId>,
}

impl Volume {
    /// Whether it was made without a name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// The record of a volume in the database.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub created: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub users: BTreeSet<ContainerId>,
    /// Whether it has been filled from an image.
    #[serde(default)]
    pub filled: bool,
    /// Set while it is being filled: found at the next fill, what is there is half a copy.
    #[serde(default)]
    pub filling: bool,
}

/// Which volumes a list shows; every set field must match, and one value of each field.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Parts of names.
    pub names: Vec<String>,
    /// `key` or `key=value`; all must match.
    pub labels: Vec<String>,
    /// `label!`: none may match.
    pub not_labels: Vec<String>,
    /// Whether no container uses it.
    pub dangling: Option<bool>,
    pub drivers: Vec<String>,
}

impl ListFilter {
    /// Whether a volume is shown.
    pub fn matches(&self, volume: &Volume) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => volume.labels.get(key).is_some_and(|have| have == value),
            None => volume.labels.contains_key(label),
        };
        let any = |wanted: &[String], test: &dyn Fn(&String) -> bool| {
            wanted.is_empty() || wanted.iter().any(test)
        };
        any(&self.names, &|part| volume.name.contains(&**part))
            && any(&self.drivers, &|driver| *driver == volume.driver)
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && self
                .dangling
                .is_none_or(|dangling| dangling == volume.users.is_empty())
    }
}

/// Checks a name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn check_name(name: &str) -> Result<(), VolumeError> {
    let bad = || VolumeError::BadName(name.to_owned());
    let mut bytes = name.bytes();
    if !bytes.next().is_some_and(|b| b.is_ascii_alphanumeric()) {
        return Err(bad());
    }
    if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(bad());
    }
    match name.len() {
        1 => Err(VolumeError::ShortName(name.to_owned())),
        // A directory name cannot be longer.
        256.. => Err(bad()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule_and_words() {
        for good in ["ab", "A1", "a_b.c-d", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "x!",
            ".a",
            "-a",
            "a/b",
            "..",
            "",
            "a b",
            "ä1",
            &"x".repeat(256),
        ] {
            assert!(
                matches!(check_name(bad), Err(VolumeError::BadName(_))),
                "{bad}"
            );
        }
        assert_eq!(
            check_name("x!").unwrap_err().to_string(),
            "create x!: \"x!\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path"
        );
        assert!(matches!(check_name("x"), Err(VolumeError::ShortName(_))));
    }
}
