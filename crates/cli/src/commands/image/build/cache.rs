//! `--cache-from` and `--cache-to`: images as caches. An image carries its history, which is what the daemon compares, so
//! that every image is an inline cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cais_client::api::options::ImageRemoveOptions;
use cais_options::csv;
use cais_types::Reference;
use serde_json::Value;

use super::output;
use crate::app::App;
use crate::archive;
use crate::commands::image::{pull, push};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::progress::Target;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Caches {
    from: Vec<Place>,
    to: Vec<Place>,
}

/// Where an image is kept.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Registry(Reference),
    /// An OCI layout in a directory of this host.
    Directory(PathBuf),
}

impl Caches {
    /// Reads the flags.
    ///
    /// # Errors
    /// Types, modes and attributes that there are not.
    pub fn parse(args: &Parsed) -> Result<Self> {
        let mut caches = Self::default();
        for text in args.list("cache-from") {
            caches
                .from
                .extend(place(&text, false).map_err(CliError::new)?);
        }
        for text in args.list("cache-to") {
            caches.to.extend(place(&text, true).map_err(CliError::new)?);
        }
        Ok(caches)
    }

    /// Fetches the images to look in; answers their names. One that is not to be had is told and does not end the build.
    ///
    /// # Errors
    /// No daemon.
    pub async fn fetch(&self, app: &App) -> Result<Vec<String>> {
        app.client()?;
        let mut names = Vec::new();
        for place in &self.from {
            let (shown, fetched) = match place {
                Place::Registry(name) => {
                    let pulled = pull::pull(app, name, "", Target::Quiet).await;
                    (name.to_string(), pulled.map(|()| name.to_string()))
                }
                Place::Directory(path) => (path.display().to_string(), load(app, path).await),
            };
            match fetched {
                Ok(name) => names.push(name),
                Err(error) => app
                    .printer
                    .err(&format!("WARNING: cache of {shown}: {}\n", error.message)),
            }
        }
        Ok(names)
    }

    /// Keeps the image as a cache. Names that were not there go again.
    ///
    /// # Errors
    /// Those of the daemon, of the registry and of files here.
    pub async fn give(&self, app: &App, id: &str, names: &[String]) -> Result<()> {
        for place in &self.to {
            match place {
                Place::Registry(name) => push_as(app, id, name, names).await?,
                Place::Directory(path) => {
                    let image = app.client()?.image_save(&[id.to_owned()], None).await?;
                    output::unpack(image, path.clone()).await?;
                }
            }
        }
        Ok(())
    }
}

async fn push_as(app: &App, id: &str, name: &Reference, names: &[String]) -> Result<()> {
    let client = app.client()?;
    client
        .image_tag(id, &name.name(), name.tag().unwrap_or_default())
        .await?;
    let given = push::give(app, name, None, true).await;
    let text = name.to_string();
    if !names.contains(&text) && !names.contains(&name.familiar()) {
        let options = ImageRemoveOptions {
            no_prune: true,
            ..ImageRemoveOptions::default()
        };
        client.image_remove(&text, &options).await?;
    }
    given.map(|_| ())
}

/// Gives the daemon the image of a directory; answers its id.
async fn load(app: &App, directory: &Path) -> Result<String> {
    let mut archive = tar::Builder::new(tempfile::NamedTempFile::new()?);
    archive.append_dir_all(".", directory)?;
    let archive = archive.into_inner()?;
    let body = archive::source(&archive.path().to_string_lossy())?;
    let mut messages = app.client()?.image_load(body, true, None).await?;
    let mut id = None;
    while let Some(message) = messages.next::<Value>().await? {
        if let Some(error) = message["error"].as_str() {
            return Err(CliError::new(error));
        }
        let text = message["stream"].as_str().unwrap_or_default();
        let loaded = text.trim().strip_prefix("Loaded image ID: ");
        id = loaded.map(str::to_owned).or(id);
    }
    id.ok_or_else(|| CliError::new("no image"))
}

/// The place that one flag names; none for an inline cache, which every image is.
fn place(text: &str, export: bool) -> std::result::Result<Option<Place>, String> {
    let fields = csv::fields(text)?;
    if let [name] = &fields[..]
        && !name.contains('=')
    {
        return registry(name).map(Some);
    }
    let mut attributes = BTreeMap::new();
    for field in &fields {
        let pair = field.split_once('=');
        let (key, value) = pair.ok_or_else(|| format!("invalid value {field}"))?;
        attributes.insert(key, value);
    }
    let kind = attributes.remove("type").unwrap_or("registry");
    match attributes.remove("mode").filter(|_| export) {
        None | Some("min") => {}
        Some(mode) => return Err(format!("cache mode {mode} is not built yet")),
    }
    let key = match kind {
        "inline" if export => return Ok(None),
        "registry" => "ref",
        "local" if export => "dest",
        "local" => "src",
        other => return Err(format!("cache type {other} is not built yet")),
    };
    let value = attributes.remove(key).unwrap_or_default();
    if let Some(other) = attributes.keys().next() {
        return Err(format!("cache attribute {other} is not built yet"));
    }
    if value.is_empty() {
        return Err(format!("{key} is required for a {kind} cache"));
    }
    if kind == "local" {
        return Ok(Some(Place::Directory(value.into())));
    }
    registry(value).map(Some)
}

fn registry(name: &str) -> std::result::Result<Place, String> {
    let name: Reference = name
        .parse()
        .map_err(|error| format!("invalid reference {name:?}: {error}"))?;
    Ok(Place::Registry(name.with_default_tag()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_images_and_what_is_not_built_is_refused() {
        let name = |text: &str, export| match place(text, export).unwrap() {
            Some(Place::Registry(name)) => Some(name.familiar()),
            Some(Place::Directory(path)) => Some(path.to_string_lossy().into_owned()),
            None => None,
        };
        assert_eq!(name("type=local,src=a/b", false).as_deref(), Some("a/b"));
        assert_eq!(
            name("type=local,dest=/c,mode=min", true).as_deref(),
            Some("/c")
        );
        assert_eq!(name("a/b", false).as_deref(), Some("a/b:latest"));
        assert_eq!(
            name("type=registry,ref=r:5000/a:1", false).as_deref(),
            Some("r:5000/a:1")
        );
        assert_eq!(
            name("type=registry,ref=a:1,mode=min", true).as_deref(),
            Some("a:1")
        );
        assert_eq!(name("type=inline", true), None);
        for (text, export, error) in [
            ("type=gha", true, "cache type gha is not built yet"),
            (
                "type=s3,region=x,bucket=y",
                false,
                "cache type s3 is not built yet",
            ),
            (
                "type=azblob,name=x",
                true,
                "cache type azblob is not built yet",
            ),
            (
                "type=local,src=x",
                true,
                "cache attribute src is not built yet",
            ),
            ("type=local", false, "src is required for a local cache"),
            ("type=inline", false, "cache type inline is not built yet"),
            (
                "type=registry,ref=a,mode=max",
                true,
                "cache mode max is not built yet",
            ),
            (
                "type=registry",
                true,
                "ref is required for a registry cache",
            ),
            (
                "type=registry,ref=a,compression=zstd",
                true,
                "cache attribute compression is not built yet",
            ),
        ] {
            assert_eq!(place(text, export).unwrap_err(), error, "{text}");
        }
    }
}
