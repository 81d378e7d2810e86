//! dpkg: `/var/lib/dpkg/status`, and a file for each package below `status.d` in images that are made without dpkg.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::{Distribution, Package, database, names};

const STATUS: &str = "var/lib/dpkg/status";
const PARTS: &str = "var/lib/dpkg/status.d";

/// The packages that are installed.
pub fn packages(root: BorrowedFd<'_>, distribution: &Distribution) -> Vec<Package> {
    let parts = names(root, PARTS).into_iter();
    let parts = parts
        .filter(|name| !name.ends_with(".md5sums"))
        .map(|name| format!("{PARTS}/{name}"));
    let mut packages = Vec::new();
    for path in [STATUS.to_owned()].into_iter().chain(parts) {
        let Some(text) = database(root, &path) else {
            continue;
        };
        let paragraphs = text.split("\n\n");
        packages.extend(paragraphs.filter_map(|text| package(text, &path, distribution)));
    }
    packages
}

fn package(paragraph: &str, path: &str, distribution: &Distribution) -> Option<Package> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    // Lines that begin with a blank go on with the field before.
    let lines = paragraph
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']));
    for (key, value) in lines.filter_map(|line| line.split_once(':')) {
        fields.entry(key).or_insert_with(|| value.trim());
    }
    let field = |key: &str| fields.get(key).copied().unwrap_or_default();
    let installed = fields
        .get("Status")
        .is_none_or(|status| status.ends_with(" installed"));
    let (name, version) = (field("Package"), field("Version"));
    if name.is_empty() || !installed {
        return None;
    }
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        url: distribution.url("deb", "debian", name, version, field("Architecture")),
        licence: String::new(),
        supplier: field("Maintainer").to_owned(),
        source: format!("/{path}"),
    })
}
