//! `cais registry rm`.

use anyhow::{Context, Result};
use cais_registry::admin::{Request, ask};

use super::options::Rm;
use super::print;

/// Removes each and prints its name, as `docker rm` does; space comes back with the next `gc`.
pub fn run(options: &Rm) -> Result<()> {
    for name in &options.names {
        let (repository, what) = split(name);
        let request = Request::Remove {
            repository: repository.to_owned(),
            what: what.map(str::to_owned),
        };
        ask(&options.root.root, &request).with_context(|| name.clone())?;
        print(&format!("{name}\n"))?;
    }
    Ok(())
}

fn split(name: &str) -> (&str, Option<&str>) {
    let parts = name.split_once('@').or_else(|| name.split_once(':'));
    parts.map_or((name, None), |(repository, what)| (repository, Some(what)))
}
