//! `cais registry ls`.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use cais_registry::admin::{Answer, ManifestRow, RepositoryRow, Request, ask};
use cais_types::human::human_size;

use super::options::Ls;
use super::print;

/// Prints repositories, or what one has.
pub fn run(options: &Ls) -> Result<()> {
    let request = match &options.repository {
        None => Request::Repositories,
        Some(repository) => Request::Manifests {
            repository: repository.clone(),
        },
    };
    match ask(&options.root.root, &request)? {
        Answer::Repositories(rows) => print(&repositories(&rows, options.quiet)),
        Answer::Manifests(rows) => print(&manifests(&rows, options.quiet)),
        _ => bail!("the server answered something else"),
    }
}

fn repositories(rows: &[RepositoryRow], quiet: bool) -> String {
    if quiet {
        return rows.iter().map(|row| format!("{}\n", row.name)).collect();
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let width = width.max("REPOSITORY".len()) + 3;
    let mut text = format!("{:width$}TAGS   MANIFESTS   BLOBS   SIZE\n", "REPOSITORY");
    for row in rows {
        let _ = writeln!(
            text,
            "{:width$}{:<7}{:<12}{:<8}{}",
            row.name,
            row.tags,
            row.manifests,
            row.blobs,
            human_size(row.size as f64)
        );
    }
    text
}

fn manifests(rows: &[ManifestRow], quiet: bool) -> String {
    let tag = |row: &ManifestRow| row.tag.clone().unwrap_or_else(|| "<none>".to_owned());
    if quiet {
        let tags = rows.iter().filter_map(|row| row.tag.as_ref());
        return tags.map(|tag| format!("{tag}\n")).collect();
    }
    let width = rows.iter().map(|row| tag(row).len()).max().unwrap_or(0);
    let width = width.max("TAG".len()) + 3;
    let mut text = format!("{:width$}{:74}{:23}SIZE\n", "TAG", "DIGEST", "PUSHED");
    for row in rows {
        let pushed = row.pushed.get(..19).unwrap_or(&row.pushed);
        let _ = writeln!(
            text,
            "{:width$}{:74}{:23}{}",
            tag(row),
            row.digest.to_string(),
            format!("{pushed}Z"),
            human_size(row.size as f64)
        );
    }
    text
}
