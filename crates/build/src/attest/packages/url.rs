//! Package URLs (the purl specification), and the distribution that packages of an operating system belong to.

use std::fmt::Write as _;
use std::os::fd::BorrowedFd;

/// What `/etc/os-release` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `debian`.
    pub id: String,
    /// `12`; empty where there is none.
    pub version: String,
}

impl Distribution {
    /// The distribution of a tree; nothing where it does not say.
    pub fn of(root: BorrowedFd<'_>) -> Self {
        let places = ["etc/os-release", "usr/lib/os-release"];
        let text = places.iter().find_map(|path| super::database(root, path));
        let text = text.unwrap_or_default();
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
                .trim()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        Self {
            id: value("ID"),
            version: value("VERSION_ID"),
        }
    }

    /// The URL of a package of this distribution.
    pub fn url(
        &self,
        kind: &str,
        usual: &str,
        name: &str,
        version: &str,
        architecture: &str,
    ) -> String {
        let id = if self.id.is_empty() { usual } else { &self.id };
        let mut url = package(kind, &[id, name], version);
        let mut separator = '?';
        if !architecture.is_empty() {
            let _ = write!(url, "?arch={}", encode(architecture));
            separator = '&';
        }
        if !self.id.is_empty() {
            let version = match self.version.as_str() {
                "" => String::new(),
                version => format!("-{version}"),
            };
            let _ = write!(
                url,
                "{separator}distro={}{}",
                encode(&self.id),
                encode(&version)
            );
        }
        url
    }
}

/// `pkg:kind/part/part@version`.
pub fn package(kind: &str, parts: &[&str], version: &str) -> String {
    let parts: Vec<String> = parts.iter().map(|part| encode(part)).collect();
    let url = format!("pkg:{kind}/{}", parts.join("/"));
    match version {
        "" => url,
        version => format!("{url}@{}", encode(version)),
    }
}

/// Percent-encodes what is no letter, digit or one of `.-_~`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
