//! `--build-context`: contexts that FROM and `--from` know by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cais_build::directory::Directory;
use cais_build::dockerfile::context_source::ContextSource;
use cais_build::dockerfile::ignore::Ignore;
use cais_build::request::platform_context;
use cais_types::oci::Platform;

use super::cache;
use super::layout::Layout;
use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::platform;

/// The contexts of a build besides the first.
#[derive(Default)]
pub struct Named {
    /// Those that are sent.
    pub directories: Vec<(String, Directory)>,
    /// Those that the daemon finds itself.
    pub places: BTreeMap<String, String>,
    /// Images that the daemon is given.
    layouts: Vec<(String, Layout)>,
}

impl Named {
    /// Reads the flags, and the directories they name.
    ///
    /// # Errors
    /// Values that are no `name=place`, and places that are not there.
    pub fn parse(args: &Parsed) -> Result<Self> {
        let mut named = Self::default();
        for value in args.list("build-context") {
            let (name, place) = value
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| {
                    CliError::new(format!(
                        "invalid context value: {value}, expected key=value"
                    ))
                })?;
            let name = name.to_lowercase();
            if let Some(layout) = place.strip_prefix("oci-layout://") {
                named.layouts.push((name, Layout::parse(layout)));
                continue;
            }
            if place.starts_with("target:") {
                return Err(CliError::new(format!(
                    "--build-context {name}={place}: contexts of this kind are not built yet"
                )));
            }
            if place.starts_with("docker-image://") {
                named.places.insert(name, place.to_owned());
                continue;
            }
            match ContextSource::parse(place).map_err(CliError::new)? {
                ContextSource::Directory(path) => {
                    named.directories.push((name, directory(Path::new(&path))?));
                }
                ContextSource::Stdin => {
                    let text =
                        format!("invalid context value: {value}, standard input has no name");
                    return Err(CliError::new(text));
                }
                ContextSource::Git(_) | ContextSource::Http(_) => {
                    named.places.insert(name, place.to_owned());
                }
            }
        }
        Ok(named)
    }

    /// Gives the daemon the images of layouts.
    ///
    /// # Errors
    /// A layout or an image that there is not; the daemon's.
    pub async fn load(&mut self, app: &App, platforms: &[String]) -> Result<()> {
        let platforms = platforms.join(",");
        let platforms = platforms
            .split(',')
            .map(|one| platform::optional(Some(one)));
        let platforms: Vec<Option<Platform>> = platforms
            .collect::<std::result::Result<_, _>>()
            .map_err(CliError::new)?;
        for (name, layout) in std::mem::take(&mut self.layouts) {
            let archive = layout.archive()?;
            for platform in &platforms {
                let id = cache::load_archive(app, archive.path(), platform.as_ref()).await?;
                let name = match platform {
                    Some(platform) => platform_context(&name, platform),
                    None => name.clone(),
                };
                self.places.insert(name, format!("docker-image://{id}"));
            }
        }
        Ok(())
    }
}

fn directory(path: &Path) -> Result<Directory> {
    let failed = |error: std::io::Error| {
        CliError::new(format!("failed to stat {}: {error}", path.display()))
    };
    let root = path.canonicalize().map_err(failed)?;
    let ignore = match fs::read_to_string(root.join(".dockerignore")) {
        Ok(text) => Ignore::parse(&text).map_err(|error| CliError::new(error.to_string()))?,
        Err(_) => Ignore::default(),
    };
    Directory::find(root, &ignore, &[], None).map_err(failed)
}
