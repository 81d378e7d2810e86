//! Node: `node_modules/NAME/package.json` and `node_modules/@SCOPE/NAME/package.json`, wherever they are.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde_json::Value;

use super::url;
use super::{Package, read, shown};

/// The package that a file tells of.
pub fn package(directory: BorrowedFd<'_>, path: &Path, name: &OsStr) -> Option<Package> {
    if name != "package.json" || !is_module(path) {
        return None;
    }
    let document: Value = serde_json::from_str(&read(directory, name)?).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (title, version) = (text(&document["name"]), text(&document["version"]));
    if title.is_empty() {
        return None;
    }
    let parts: Vec<&str> = title.splitn(2, '/').collect();
    let supplier = match &document["author"] {
        Value::Object(author) => author.get("name").map(text).unwrap_or_default(),
        author => text(author),
    };
    Some(Package {
        url: url::package("npm", &parts, &version),
        version,
        licence: text(&document["license"]),
        supplier,
        source: shown(path, name),
        name: title,
    })
}

/// Whether a directory is that of a module.
fn is_module(path: &Path) -> bool {
    let own = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).and_then(OsStr::to_str);
        name.unwrap_or_default().to_owned()
    };
    let (name, above) = (own(Some(path)), path.parent());
    let plain = !name.starts_with(['.', '@']);
    let is_top = |path: Option<&Path>| own(path) == "node_modules";
    let in_scope = own(above).starts_with('@') && is_top(above.and_then(Path::parent));
    plain && (is_top(above) || in_scope)
}
