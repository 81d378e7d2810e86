//! What an image is made of, as lines of text that two builders can be compared by: its configuration, its history, and
//! what its files differ in from its base. No times and no ids.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Fields of the configuration that say which builder wrote it, and nothing about the image.
const OWN: [&str; 6] = [
    "ArgsEscaped",
    "ContainerConfig",
    "Domainname",
    "Hostname",
    "Image",
    "MacAddress",
];

/// The lines of an image in an archive that `docker save` wrote; its first `base` layers and steps are not told.
///
/// # Errors
/// The archive is none.
pub fn describe(archive: &Path, base: usize) -> Result<Vec<String>> {
    let files = files(archive)?;
    let file = |name: &str| files.get(name).with_context(|| name.to_owned());
    let manifest: Value = serde_json::from_slice(file("manifest.json")?)?;
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let image: Value = serde_json::from_slice(file(&name(&manifest[0]["Config"]))?)?;
    let layers = manifest[0]["Layers"].as_array().context("layers")?;
    let mut below = Tree::new();
    let mut tree = Tree::new();
    for (number, layer) in layers.iter().enumerate() {
        apply(file(&name(layer))?, &mut tree)?;
        if number + 1 == base {
            below = tree.clone();
        }
    }
    let mut lines = configuration(&image);
    lines.extend(history(&image).into_iter().skip(base));
    lines.extend(changes(&below, &tree));
    Ok(lines)
}

fn files(archive: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(std::fs::File::open(archive)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        // Layers that are the same are written once, with links to them.
        if let Some(target) = entry.link_name()? {
            let parent = Path::new(&name).parent().unwrap_or(Path::new(""));
            links.push((name.clone(), resolve(&parent.join(target))));
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(name, bytes);
    }
    for (name, target) in links {
        if let Some(bytes) = files.get(&target).cloned() {
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

fn resolve(path: &Path) -> String {
    let mut parts = Vec::new();
    for part in path.iter().map(|part| part.to_string_lossy()) {
        match &*part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part.into_owned()),
        }
    }
    parts.join("/")
}

fn configuration(image: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for key in ["architecture", "os", "variant", "author"] {
        if let Some(text) = image[key].as_str().filter(|text| !text.is_empty()) {
            lines.push(format!("{key} {text}"));
        }
    }
    let empty = Map::new();
    let fields: BTreeMap<_, _> = image["config"]
        .as_object()
        .unwrap_or(&empty)
        .iter()
        .collect();
    for (key, value) in fields {
        let said = match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(object) => !object.is_empty(),
            _ => true,
        };
        if said && !OWN.contains(&key.as_str()) {
            lines.push(format!("config {key} {}", sorted(value)));
        }
    }
    lines
}

/// JSON with the fields of objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let fields: BTreeMap<_, _> = object.iter().collect();
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn history(image: &Value) -> Vec<String> {
    let steps = image["history"].as_array().map_or(&[][..], Vec::as_slice);
    let step = |step: &Value| {
        let words = step["created_by"].as_str().unwrap_or_default();
        let words: Vec<_> = words.split(' ').map(without_digest).collect();
        let layer = if step["empty_layer"] == true {
            ""
        } else {
            " (layer)"
        };
        let comment = step["comment"].as_str().unwrap_or_default();
        format!("history {:?}{layer}{comment}", words.join(" "))
    };
    steps.iter().map(step).collect()
}

/// `file:<digest>`, as copied files are named; the digest is over their times too.
fn without_digest(word: &str) -> String {
    match word.rsplit_once(':') {
        Some((kind, digest))
            if digest.len() == 64
                && ["file", "dir", "multi"]
                    .iter()
                    .any(|end| kind.ends_with(end)) =>
        {
            format!("{kind}:DIGEST")
        }
        _ => word.to_owned(),
    }
}

/// Path to everything that counts about a file.
type Tree = BTreeMap<String, String>;

fn apply(layer: &[u8], tree: &mut Tree) -> Result<()> {
    let mut archive = tar::Archive::new(layer);
    let mut new = Tree::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let inside = |parent: &str, name: &str| {
            if parent.is_empty() {
                name.to_owned()
            } else {
                format!("{parent}/{name}")
            }
        };
        if name == ".wh..wh..opq" {
            tree.retain(|path, _| !path.starts_with(&inside(parent, "")));
        } else if let Some(gone) = name.strip_prefix(".wh.") {
            let gone = inside(parent, gone);
            let below = format!("{gone}/");
            tree.retain(|path, _| *path != gone && !path.starts_with(&below));
        } else if !path.is_empty() {
            new.insert(path, entry_line(&mut entry)?);
        }
    }
    tree.extend(new);
    Ok(())
}

fn entry_line<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<String> {
    let mut extended = String::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key()?.strip_prefix("SCHILY.xattr.") {
            extended += &format!(
                " {name}={:?}",
                String::from_utf8_lossy(extension.value_bytes())
            );
        }
    }
    let header = entry.header().clone();
    let mode = header.mode()? & 0o7777;
    let (user, group) = (header.uid()?, header.gid()?);
    let target = entry
        .link_name()?
        .map(|name| name.to_string_lossy().into_owned());
    let what = match header.entry_type() {
        tar::EntryType::Directory => "directory".to_owned(),
        tar::EntryType::Symlink => format!("symlink {}", target.unwrap_or_default()),
        tar::EntryType::Link => format!("hard link {}", target.unwrap_or_default()),
        tar::EntryType::Regular => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            let digest = hex::encode(Sha256::digest(&bytes));
            format!("file {} {}", bytes.len(), &digest[..12])
        }
        other => format!("{other:?}"),
    };
    Ok(format!("{mode:04o} {user}:{group} {what}{extended}"))
}

fn changes(below: &Tree, tree: &Tree) -> Vec<String> {
    let gone = below.keys().filter(|path| !tree.contains_key(*path));
    let gone = gone.map(|path| format!("removed /{path}"));
    let changed = tree
        .iter()
        .filter(|(path, line)| below.get(*path) != Some(line));
    gone.chain(changed.map(|(path, line)| format!("tree /{path} {line}")))
        .collect()
}
