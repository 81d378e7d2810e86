//! apk: the database of Alpine's package manager, in which each line begins with a letter that says what it is.

use std::os::fd::BorrowedFd;

use super::{Distribution, Package, database};

const INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

/// The packages that are installed.
pub fn packages(root: BorrowedFd<'_>, distribution: &Distribution) -> Vec<Package> {
    let mut found = INSTALLED.iter();
    let found = found.find_map(|path| Some((path, database(root, path)?)));
    let Some((path, text)) = found else {
        return Vec::new();
    };
    let paragraphs = text.split("\n\n");
    paragraphs
        .filter_map(|text| package(text, path, distribution))
        .collect()
}

fn package(paragraph: &str, path: &str, distribution: &Distribution) -> Option<Package> {
    let field = |key: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim()
    };
    let (name, version) = (field("P:"), field("V:"));
    (!name.is_empty()).then(|| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        url: distribution.url("apk", "alpine", name, version, field("A:")),
        licence: field("L:").to_owned(),
        supplier: field("m:").to_owned(),
        source: format!("/{path}"),
    })
}
