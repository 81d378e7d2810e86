//! `--cache-from` and `--cache-to`: images as caches. An image carries its history, which is what the daemon compares, so
//! that every image is an inline cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cais_client::api::options::ImageRemoveOptions;
use cais_options::csv;
use cais_types::oci::Platform;
use cais_types::{Digest, Reference};
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
    to: Vec<Export>,
}

/// Where a cache is given to.
#[derive(Debug, PartialEq, Eq)]
struct Export {
    place: Place,
    /// With all stages, not only what is in the result.
    max: bool,
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
            let export = place(&text, false).map_err(CliError::new)?;
            caches.from.extend(export.map(|export| export.place));
        }
        for text in args.list("cache-to") {
            caches.to.extend(place(&text, true).map_err(CliError::new)?);
        }
        Ok(caches)
    }

    /// Names that the daemon gives to the images of all stages.
    ///
    /// # Errors
    /// A daemon that does not do that.
    pub fn names(&self, app: &App) -> Result<Vec<String>> {
        let wanted = self.to.iter().filter(|export| export.max);
        let names: Vec<String> = wanted.map(|export| export.place.name()).collect();
        if !names.is_empty() && !app.client()?.is_cais() {
            return Err(CliError::new(
                "--cache-to mode=max: the classic builder of this daemon keeps images only",
            ));
        }
        Ok(names)
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
                    let pulled = pull::pull_whole(app, name, Target::Quiet).await;
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
        for Export { place, max } in &self.to {
            let own = place.name();
            match place {
                Place::Registry(name) => {
                    if !max {
                        let tag = name.tag().unwrap_or_default();
                        app.client()?.image_tag(id, &name.name(), tag).await?;
                    }
                    let given = push::give(app, name, None, true).await;
                    untag(app, &own, names).await?;
                    given?;
                }
                Place::Directory(path) => {
                    let what = if *max { &own } else { id };
                    let image = app.client()?.image_save(&[what.to_owned()], None).await?;
                    output::unpack(image, path.clone()).await?;
                    if *max {
                        untag(app, &own, names).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Place {
    /// The name that the daemon has it by.
    fn name(&self) -> String {
        match self {
            Self::Registry(name) => name.familiar(),
            Self::Directory(path) => {
                let digest = Digest::of(path.as_os_str().as_encoded_bytes());
                format!("cais/build-cache:{}", digest.short())
            }
        }
    }
}

/// Takes a name that no result of the build has.
async fn untag(app: &App, name: &str, names: &[String]) -> Result<()> {
    let same = |other: &String| {
        let other = other.parse::<Reference>();
        other.is_ok_and(|other| other.with_default_tag().familiar() == name)
    };
    if names.iter().any(same) {
        return Ok(());
    }
    let options = ImageRemoveOptions {
        no_prune: true,
        untag: true,
        ..ImageRemoveOptions::default()
    };
    app.client()?.image_remove(name, &options).await?;
    Ok(())
}

/// Gives the daemon the image of a directory; answers its id.
async fn load(app: &App, directory: &Path) -> Result<String> {
    let mut archive = tar::Builder::new(tempfile::NamedTempFile::new()?);
    archive.append_dir_all(".", directory)?;
    let archive = archive.into_inner()?;
    load_archive(app, archive.path(), None).await
}

/// Gives the daemon the image of an archive; answers its name, or its id where it has none.
pub(super) async fn load_archive(
    app: &App,
    path: &Path,
    platform: Option<&Platform>,
) -> Result<String> {
    let body = archive::source(&path.to_string_lossy())?;
    let mut messages = app.client()?.image_load(body, true, platform).await?;
    let mut id = None;
    while let Some(message) = messages.next::<Value>().await? {
        if let Some(error) = message["error"].as_str() {
            return Err(CliError::new(error));
        }
        let text = message["stream"].as_str().unwrap_or_default();
        let text = text.trim();
        let loaded = text
            .strip_prefix("Loaded image ID: ")
            .or(text.strip_prefix("Loaded image: "));
        id = loaded.map(str::to_owned).or(id);
    }
    id.ok_or_else(|| CliError::new("no image"))
}

/// The place that one flag names; none for an inline cache, which every image is.
fn place(text: &str, export: bool) -> std::result::Result<Option<Export>, String> {
    let fields = csv::fields(text)?;
    if let [name] = &fields[..]
        && !name.contains('=')
    {
        let place = registry(name)?;
        return Ok(Some(Export { place, max: false }));
    }
    let mut attributes = BTreeMap::new();
    for field in &fields {
        let pair = field.split_once('=');
        let (key, value) = pair.ok_or_else(|| format!("invalid value {field}"))?;
        attributes.insert(key, value);
    }
    let kind = attributes.remove("type").unwrap_or("registry");
    let max = match attributes.remove("mode").filter(|_| export) {
        None | Some("min") => false,
        Some("max") => true,
        Some(mode) => return Err(format!("unsupported cache mode {mode:?}")),
    };
    let key = match kind {
        "inline" if export && max => {
            return Err("mode=max is for caches of the types registry and local".to_owned());
        }
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
    let place = match kind {
        "local" => Place::Directory(value.into()),
        _ => registry(value)?,
    };
    Ok(Some(Export { place, max }))
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
            Some(Export { place, .. }) => match place {
                Place::Registry(name) => Some(name.familiar()),
                Place::Directory(path) => Some(path.to_string_lossy().into_owned()),
            },
            None => None,
        };
        assert!(
            place("type=local,dest=c,mode=max", true)
                .unwrap()
                .unwrap()
                .max
        );
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
                "type=inline,mode=max",
                true,
                "mode=max is for caches of the types registry and local",
            ),
            (
                "type=registry,ref=a,mode=mid",
                true,
                "unsupported cache mode \"mid\"",
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
