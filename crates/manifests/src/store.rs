//! Lists on disk: a directory per list below `manifests` of the user's configuration, a file per manifest, named and
//! written as Docker does it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cais_types::Reference;

use crate::entry::Entry;
use cais_console::error::{CliError, Result};
use cais_console::new_file::NewFile;

/// The lists of a user.
#[derive(Debug)]
pub struct ManifestStore {
    directory: PathBuf,
}

impl ManifestStore {
    /// Those below a configuration directory.
    pub fn new(config_dir: &Path) -> Self {
        Self {
            directory: config_dir.join("manifests"),
        }
    }

    /// The manifests of a list, by name; `None` when there is no such list.
    ///
    /// # Errors
    /// The disk, or a file that is damaged.
    pub fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>> {
        let mut files = Vec::new();
        match fs::read_dir(self.list_path(list)) {
            Ok(found) => {
                for file in found {
                    files.push(file?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        files.retain(|path| path.extension().is_none_or(|end| end != "part"));
        files.sort();
        let entries = files.iter().map(|path| read(path));
        Ok(Some(entries.collect::<Result<_>>()?))
    }

    /// One manifest of a list; `None` when it is not in it.
    ///
    /// # Errors
    /// As [`ManifestStore::list`].
    pub fn get(&self, list: &Reference, manifest: &Reference) -> Result<Option<Entry>> {
        let path = self.path(list, manifest);
        if !path.exists() {
            return Ok(None);
        }
        read(&path).map(Some)
    }

    /// Keeps a manifest in a list.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, list: &Reference, manifest: &Reference, entry: &Entry) -> Result<()> {
        let text = serde_json::to_vec(entry).map_err(|error| CliError::new(error.to_string()))?;
        fs::create_dir_all(self.list_path(list))?;
        let mut file = NewFile::create(&self.path(list, manifest))?;
        file.write_all(&text)?;
        file.keep()?;
        Ok(())
    }

    /// Forgets a list.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self, list: &Reference) -> Result<()> {
        match fs::remove_dir_all(self.list_path(list)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn list_path(&self, list: &Reference) -> PathBuf {
        self.directory.join(file_name(list))
    }

    fn path(&self, list: &Reference, manifest: &Reference) -> PathBuf {
        self.list_path(list).join(file_name(manifest))
    }
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn read(path: &Path) -> Result<Entry> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| CliError::new(format!("{}: {error}", path.display())))
}

/// What Docker says of a list or a manifest that is not there.
pub fn missing(reference: &Reference) -> CliError {
    CliError::new(format!("No such manifest: {reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_where_docker_keeps_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = ManifestStore::new(directory.path());
        let list: Reference = "127.0.0.1:5001/list:latest".parse().unwrap();
        let name: Reference = "127.0.0.1:5001/bb:latest".parse().unwrap();
        assert!(store.list(&list).unwrap().is_none());
        let text = r#"{"Ref":"127.0.0.1:5001/bb:latest","Descriptor":{"mediaType":"","digest":"sha256:d3080fbdad3feeae075685bd008b933726017fdd328c54c3727d991240cf1ebd","size":2}}"#;
        store
            .save(&list, &name, &serde_json::from_str(text).unwrap())
            .unwrap();
        let path = directory
            .path()
            .join("manifests/127.0.0.1-5001_list-latest/127.0.0.1-5001_bb-latest");
        assert_eq!(fs::read_to_string(path).unwrap(), text);
        assert_eq!(store.list(&list).unwrap().unwrap().len(), 1);
        assert!(store.get(&list, &name).unwrap().is_some());
        assert!(store.get(&list, &list).unwrap().is_none());
        store.remove(&list).unwrap();
        assert!(store.list(&list).unwrap().is_none());
    }
}
