//! Changes to `config.json`: read, changed and put in place of the old one, so that a crash leaves either; keys nobody
//! here knows stay as they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::{Map, Value, json};

use crate::error::{ClientError, Result};

/// How many symbolic links are followed from `config.json` to the file.
const LINKS: usize = 16;

/// Where the configuration of a directory is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("config.json")
}

/// Changes the configuration of a directory; both are made when they are missing. A file that is no JSON object is left
/// alone.
///
/// # Errors
/// The file cannot be read or written, or is no JSON object.
pub fn edit(directory: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
    let path = path(directory);
    let bad = |cause: String| {
        ClientError::Configuration(format!("parsing config file ({}): {cause}", path.display()))
    };
    let mut document = match fs::read(&path) {
        Ok(text) if text.trim_ascii().is_empty() => json!({"auths": {}}),
        Ok(text) => serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => json!({"auths": {}}),
        Err(error) => return Err(error.into()),
    };
    let fields = document
        .as_object_mut()
        .ok_or_else(|| bad("not an object".into()))?;
    change(fields);
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    document
        .serialize(&mut serializer)
        .map_err(|error| bad(error.to_string()))?;
    create_directory(directory)?;
    replace(&target(&path)?, &text)?;
    Ok(())
}

fn create_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// The file behind symbolic links, which may lead to a file that is not there yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = write_new(&part, path, text).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // What made writing fail is told; the rest may not even be there.
        drop(fs::remove_file(&part));
    }
    written
}

/// Writes a file beside the old one, for its owner and with its mode if there is one, else for this user only.
fn write_new(part: &Path, old: &Path, text: &[u8]) -> io::Result<()> {
    // One of a process that died with this number.
    drop(fs::remove_file(part));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)?;
    if let Ok(old) = fs::metadata(old) {
        copy_access(&file, &old);
    }
    file.write_all(text)?;
    file.sync_all()
}

fn copy_access(file: &File, old: &fs::Metadata) {
    // Only root may give files away; the mode is no looser than it was.
    drop(std::os::unix::fs::fchown(
        file,
        Some(old.uid()),
        Some(old.gid()),
    ));
    drop(file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z<>&]{1,8}", inner, 0..4)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// Whatever stands in the file, a change changes only what it means to.
        #[test]
        fn other_keys_stay(fields in prop::collection::btree_map("[a-z]{1,10}", json_values(), 0..6)) {
            let directory = tempfile::tempdir().unwrap();
            let mut before: Map<String, Value> = fields.into_iter().collect();
            before.remove("changed");
            fs::write(path(directory.path()), Value::from(before.clone()).to_string()).unwrap();
            edit(directory.path(), |fields| {
                fields.insert("changed".into(), 1.into());
            })
            .unwrap();
            let text = fs::read(path(directory.path())).unwrap();
            let mut after: Map<String, Value> = serde_json::from_slice(&text).unwrap();
            assert_eq!(after.shift_remove("changed"), Some(1.into()));
            assert_eq!(after, before);
        }
    }

    /// Many writers at once, one of them stopped anywhere: a reader always finds a whole file.
    #[test]
    fn readers_never_see_half_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let filler = "x".repeat(100_000);
        let change = |number: usize| {
            edit(directory.path(), |fields| {
                fields.insert("number".into(), number.into());
                fields.insert("filler".into(), filler.as_str().into());
            })
        };
        change(0).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..50).try_for_each(change));
            while !writer.is_finished() {
                let text = fs::read(path(directory.path())).unwrap();
                let document: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(document["filler"], filler.as_str());
            }
            writer.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path()), "{\"a\":1}").unwrap();
        // A directory where the new file would be written stands for every failure of writing.
        let blocker = format!("config.json.{}.part", std::process::id());
        fs::create_dir_all(directory.path().join(&blocker).join("x")).unwrap();
        assert!(edit(directory.path(), |fields| fields.clear()).is_err());
        assert_eq!(
            fs::read_to_string(path(directory.path())).unwrap(),
            "{\"a\":1}"
        );
    }

    #[test]
    fn links_are_followed_to_files_that_are_not_there_yet() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let real = elsewhere.path().join("real.json");
        std::os::unix::fs::symlink(&real, path(directory.path())).unwrap();
        edit(directory.path(), |fields| {
            fields.insert("a".into(), 1.into());
        })
        .unwrap();
        assert_eq!(
            fs::read_to_string(&real).unwrap(),
            "{\n\t\"auths\": {},\n\t\"a\": 1\n}"
        );
        assert!(path(directory.path()).is_symlink());
    }
}
