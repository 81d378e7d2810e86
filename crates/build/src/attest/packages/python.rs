//! Python: what distributions say of themselves beside their modules (`*.dist-info/METADATA`, `*.egg-info`), wherever that is.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::url;
use super::{Package, read, shown};

/// The package that a file tells of.
pub fn package(directory: BorrowedFd<'_>, path: &Path, name: &OsStr) -> Option<Package> {
    let above = path.extension().and_then(OsStr::to_str);
    let own = Path::new(name).extension().and_then(OsStr::to_str);
    let is_metadata = match name.to_str()? {
        "METADATA" => above == Some("dist-info"),
        "PKG-INFO" => above == Some("egg-info"),
        _ => own == Some("egg-info"),
    };
    if !is_metadata {
        return None;
    }
    let text = read(directory, name)?;
    // Fields end with the first empty line; behind it is a description.
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |key: &str| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let (title, version) = (field("Name"), field("Version"));
    if title.is_empty() {
        return None;
    }
    let licence = match field("License-Expression") {
        expression if expression.is_empty() => field("License"),
        expression => expression,
    };
    Some(Package {
        url: url::package("pypi", &[&normalized(&title)], &version),
        name: title,
        version,
        licence,
        supplier: field("Author"),
        source: shown(path, name),
    })
}

/// Names are the same whatever their case, and whichever of `-`, `_` and `.` they have (PEP 503).
fn normalized(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}
