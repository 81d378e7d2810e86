//! `--cache-from` and `--cache-to`: images as caches. An image carries its history, which is what the daemon compares, so
//! that every image is an inline cache.

use cais_client::api::options::ImageRemoveOptions;
use cais_options::csv;
use cais_types::Reference;

use crate::app::App;
use crate::commands::image::{pull, push};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::progress::Target;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Caches {
    from: Vec<Reference>,
    to: Vec<Reference>,
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
                .extend(image(&text, false).map_err(CliError::new)?);
        }
        for text in args.list("cache-to") {
            caches.to.extend(image(&text, true).map_err(CliError::new)?);
        }
        Ok(caches)
    }

    /// Fetches the images to look in; answers their names. One that is not to be had is told and does not end the build.
    ///
    /// # Errors
    /// No daemon.
    pub async fn fetch(&self, app: &App) -> Result<Vec<String>> {
        app.client()?;
        for name in &self.from {
            if let Err(error) = pull::pull(app, name, "", Target::Quiet).await {
                app.printer
                    .err(&format!("WARNING: cache of {name}: {}\n", error.message));
            }
        }
        Ok(self.from.iter().map(Reference::to_string).collect())
    }

    /// Gives the image to the registries that are to keep it as a cache. Names that were not there go again.
    ///
    /// # Errors
    /// Those of the daemon and of the registry.
    pub async fn give(&self, app: &App, id: &str, names: &[String]) -> Result<()> {
        let client = app.client()?;
        for name in &self.to {
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
            given?;
        }
        Ok(())
    }
}

/// The image that one flag names; none for an inline cache, which every image is.
fn image(text: &str, export: bool) -> std::result::Result<Option<Reference>, String> {
    let fields = csv::fields(text)?;
    let (mut kind, mut name) = ("registry".to_owned(), String::new());
    for field in &fields {
        match field.split_once('=') {
            Some(("type", value)) => value.clone_into(&mut kind),
            Some(("ref", value)) => value.clone_into(&mut name),
            Some(("mode", "min")) if export => {}
            Some(("mode", value)) if export => {
                return Err(format!("cache mode {value} is not built yet"));
            }
            Some((key, _)) if kind == "registry" => {
                return Err(format!("cache attribute {key} is not built yet"));
            }
            Some(_) => {}
            None if fields.len() == 1 => field.clone_into(&mut name),
            None => return Err(format!("invalid value {field}")),
        }
    }
    match kind.as_str() {
        "inline" if export => return Ok(None),
        "registry" => {}
        other => return Err(format!("cache type {other} is not built yet")),
    }
    if name.is_empty() {
        return Err("ref is required for a registry cache".to_owned());
    }
    let name: Reference = name
        .parse()
        .map_err(|error| format!("invalid reference {name:?}: {error}"))?;
    Ok(Some(name.with_default_tag()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_images_and_what_is_not_built_is_refused() {
        let name = |text: &str, export| image(text, export).unwrap().map(|name| name.familiar());
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
                false,
                "cache type local is not built yet",
            ),
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
            assert_eq!(image(text, export).unwrap_err(), error, "{text}");
        }
    }
}
