//! `cais registry gc`.

use anyhow::{Result, bail};
use cais_registry::admin::{Answer, Request, ask};

use super::options::Gc;
use super::{print, serve};

/// Collects garbage and prints what went.
pub fn run(options: &Gc) -> Result<()> {
    let policy = serve::policy(&options.ages, options.dry_run);
    let Answer::Collected(collected) = ask(&options.root.root, &Request::Gc(policy))? else {
        bail!("the server answered something else");
    };
    if options.dry_run {
        return print(&format!(
            "would remove: {} manifests, {} blobs of repositories, {} uploads\n",
            collected.manifests, collected.links, collected.uploads
        ));
    }
    print(&format!(
        "removed: {} manifests, {} blobs of repositories, {} uploads\nTotal reclaimed space: {}\n",
        collected.manifests,
        collected.links,
        collected.uploads,
        cais_types::human::human_size(collected.bytes as f64),
    ))
}
