//! What is mounted into a container besides the defaults: how users write it (`-v`, `--mount`, `--tmpfs`,
//! `--volumes-from`), what is kept of it in the record, and how wishes become sources on the host.

mod bind;
mod resolve;
mod wish;

use serde::{Deserialize, Serialize};

pub use bind::parse_bind;
pub use resolve::{Resolver, prepare_sources};
pub use wish::wishes;

/// Kinds of user mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

impl MountKind {
    /// As the Engine API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// A mount as wished for, and, once `source` is a path on the host, as kept in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    pub kind: MountKind,
    /// Name of a volume; empty for other kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Directory or file on the host; empty for tmpfs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Clean absolute path inside.
    pub destination: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The options as the user wrote them after the second colon.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    pub writable: bool,
    /// `rprivate`, ...; empty for volumes and tmpfs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Do not fill an empty volume from the image.
    #[serde(default)]
    pub no_copy: bool,
    /// Make a missing source directory (`-v`), instead of failing (`--mount`).
    #[serde(default)]
    pub create_source: bool,
    /// Bind only the directory itself, not what is mounted below it.
    #[serde(default)]
    pub non_recursive: bool,
    /// Leave mounts below a read-only bind writable.
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// Directory of a volume to mount instead of its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Options of a tmpfs, as mount(8) takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs_options: Vec<String>,
    /// A volume that the user gave no name.
    #[serde(default)]
    pub anonymous: bool,
}

impl MountRecord {
    /// A writable mount with nothing special.
    pub fn new(kind: MountKind, destination: String) -> Self {
        Self {
            kind,
            name: String::new(),
            source: String::new(),
            destination,
            driver: String::new(),
            mode: String::new(),
            writable: true,
            propagation: String::new(),
            no_copy: false,
            create_source: false,
            non_recursive: false,
            read_only_non_recursive: false,
            subpath: String::new(),
            tmpfs_options: Vec::new(),
            anonymous: false,
        }
    }
}

/// Cleans an absolute path as Go's `filepath.Clean` does: no empty, `.` or `..` parts, no slash at the end.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
