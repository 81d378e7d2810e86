//! Contexts on disk: `contexts/meta/<sha256 of the name>/meta.json` below the user's configuration, as Docker keeps them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cais_client::config_file;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{CliError, Result};

/// Name of the context that is not kept on disk.
pub const DEFAULT: &str = "default";

/// One context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// A line about it, or empty.
    pub description: String,
    /// The daemon's address.
    pub host: String,
    /// Whether the daemon's certificate is not checked.
    pub skip_tls_verify: bool,
}

impl Context {
    /// The document kept on disk.
    pub fn document(&self) -> Value {
        let metadata = if self.description.is_empty() {
            json!({})
        } else {
            json!({"Description": self.description})
        };
        json!({
            "Name": self.name,
            "Metadata": metadata,
            "Endpoints": {"docker": {"Host": self.host, "SkipTLSVerify": self.skip_tls_verify}},
        })
    }

    fn from_document(document: &Value) -> Option<Self> {
        let docker = &document["Endpoints"]["docker"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Self {
            name: document["Name"].as_str()?.to_owned(),
            description: text(&document["Metadata"]["Description"]),
            host: text(&docker["Host"]),
            skip_tls_verify: docker["SkipTLSVerify"].as_bool().unwrap_or(false),
        })
    }
}

/// The contexts of a user.
#[derive(Debug)]
pub struct ContextStore {
    directory: PathBuf,
}

impl ContextStore {
    /// Those below a configuration directory.
    pub fn new(config_dir: &Path) -> Self {
        Self {
            directory: config_dir.join("contexts"),
        }
    }

    /// Where a context's document is.
    pub fn metadata_dir(&self, name: &str) -> PathBuf {
        self.directory
            .join("meta")
            .join(cais_client::endpoint::context_id(name))
    }

    /// Where a context's keys would be.
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.directory
            .join("tls")
            .join(cais_client::endpoint::context_id(name))
    }

    /// All contexts on disk, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Context>> {
        let entries = match fs::read_dir(self.directory.join("meta")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut contexts = Vec::new();
        for entry in entries {
            let Ok(text) = fs::read(entry?.path().join("meta.json")) else {
                continue;
            };
            let document: Value = serde_json::from_slice(&text).unwrap_or_default();
            contexts.extend(Context::from_document(&document));
        }
        contexts.sort_by(|a, b| crate::cell::natural_order(&a.name, &b.name));
        Ok(contexts)
    }

    /// Whether there is such a context on disk.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata_dir(name).join("meta.json").exists()
    }

    /// One context.
    ///
    /// # Errors
    /// `context "x": context not found: open ...`.
    pub fn get(&self, name: &str) -> Result<Context> {
        let path = self.metadata_dir(name).join("meta.json");
        let unknown = |cause: String| CliError::new(format!("context {name:?}: {cause}"));
        let text = fs::read(&path).map_err(|error| {
            let cause = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            unknown(format!(
                "context not found: open {}: {cause}",
                path.display()
            ))
        })?;
        let document: Value =
            serde_json::from_slice(&text).map_err(|error| unknown(error.to_string()))?;
        Context::from_document(&document).ok_or_else(|| unknown("no name".into()))
    }

    /// Writes a context.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn put(&self, context: &Context) -> Result<()> {
        let directory = self.metadata_dir(&context.name);
        fs::create_dir_all(&directory)?;
        write_whole(
            &directory.join("meta.json"),
            &context.document().to_string(),
        )?;
        Ok(())
    }

    /// Removes a context.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_dir_all(self.metadata_dir(name))?;
        match fs::remove_dir_all(self.tls_dir(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The context nobody has to make: the environment's daemon, or the usual one.
pub fn default_context() -> Context {
    Context {
        name: DEFAULT.into(),
        description: "Current DOCKER_HOST based configuration".into(),
        host: crate::app::env("DOCKER_HOST")
            .unwrap_or_else(|| cais_client::DEFAULT_HOST.to_owned()),
        skip_tls_verify: false,
    }
}

/// Checks a new name.
///
/// # Errors
/// Docker's text for a name that is reserved or has strange letters.
pub fn check_name(name: &str) -> Result<()> {
    if name == DEFAULT {
        return Err(CliError::new("\"default\" is a reserved context name"));
    }
    let mut letters = name.chars();
    let good = letters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.len() > 1
        && letters.all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if good {
        return Ok(());
    }
    Err(CliError::new(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

/// Makes a context the current one in `config.json`; what else stands there stays.
///
/// # Errors
/// The file cannot be read or written.
pub fn set_current(app: &App, name: &str) -> Result<()> {
    config_file::edit(app.config_dir(), |fields| {
        if name == DEFAULT {
            fields.shift_remove("currentContext");
        } else {
            fields.insert("currentContext".into(), name.into());
        }
    })?;
    Ok(())
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = crate::new_file::NewFile::create(path)?;
    file.write_all(text.as_bytes())?;
    file.keep()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_kept_as_docker_keeps_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = ContextStore::new(directory.path());
        let context = Context {
            name: "foo".into(),
            description: "bye".into(),
            host: "unix:///x.sock".into(),
            skip_tls_verify: false,
        };
        store.put(&context).unwrap();
        let id = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        assert_eq!(
            fs::read_to_string(
                directory
                    .path()
                    .join("contexts/meta")
                    .join(id)
                    .join("meta.json")
            )
            .unwrap(),
            "{\"Name\":\"foo\",\"Metadata\":{\"Description\":\"bye\"},\"Endpoints\":{\"docker\":{\"Host\":\
             \"unix:///x.sock\",\"SkipTLSVerify\":false}}}"
        );
        assert_eq!(store.list().unwrap(), std::slice::from_ref(&context));
        assert_eq!(store.get("foo").unwrap(), context);
        store.remove("foo").unwrap();
        assert!(!store.contains("foo"));
        let error = store.get("foo").unwrap_err().message;
        assert!(
            error.starts_with("context \"foo\": context not found: open "),
            "{error}"
        );
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("foo-1.x").is_ok());
        for bad in ["x", "a/b", "-x", "default", ""] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
