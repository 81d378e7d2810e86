//! ADD and COPY.

use super::{Request, Takes};
use crate::dockerfile::flags::Flags;
use crate::dockerfile::heredoc;
use crate::dockerfile::instruction::Transfer;

const SHARED: [(&str, Takes); 5] = [
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("exclude", Takes::Values),
    ("if-exists", Takes::Switch),
];

pub(super) fn add(request: &Request<'_>) -> Result<Transfer, String> {
    let own = [
        ("keep-git-dir", Takes::Switch),
        ("checksum", Takes::Value),
        ("unpack", Takes::Switch),
    ];
    transfer(request, "ADD", &own)
}

pub(super) fn copy(request: &Request<'_>) -> Result<Transfer, String> {
    let own = [("from", Takes::Value), ("parents", Takes::Switch)];
    transfer(request, "COPY", &own)
}

fn transfer(
    request: &Request<'_>,
    keyword: &str,
    own: &[(&'static str, Takes)],
) -> Result<Transfer, String> {
    let words = request.list()?;
    let Some((destination, sources)) = words.split_last().filter(|(_, rest)| !rest.is_empty())
    else {
        return Err(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        ));
    };
    let extras = request.directives.extras.if_exists;
    let shared = SHARED
        .iter()
        .filter(|(name, _)| extras || *name != "if-exists");
    let known: Vec<(&str, Takes)> = own.iter().chain(shared).copied().collect();
    let flags = request.flags(&known)?;
    if heredoc::announced(destination).is_some() && !request.heredocs.is_empty() {
        return Err(format!(
            "{keyword} cannot accept a heredoc as a destination"
        ));
    }
    let (sources, documents) = sources_of(request, sources);
    Ok(filled(&flags, sources, documents, destination))
}

/// Paths, and here-documents with their text.
fn sources_of(request: &Request<'_>, words: &[String]) -> (Vec<String>, Vec<heredoc::Heredoc>) {
    let mut paths = Vec::new();
    let mut documents = Vec::new();
    for word in words {
        let document = heredoc::announced(word).and_then(|announced| {
            request
                .heredocs
                .iter()
                .find(|document| document.name == announced.name)
        });
        match document {
            Some(document) => documents.push(document.clone()),
            None => paths.push(word.clone()),
        }
    }
    (paths, documents)
}

fn filled(
    flags: &Flags,
    sources: Vec<String>,
    documents: Vec<heredoc::Heredoc>,
    destination: &str,
) -> Transfer {
    let on = |name| flags.switch(name).unwrap_or(false);
    Transfer {
        sources,
        documents,
        destination: destination.to_owned(),
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: on("link"),
        parents: on("parents"),
        exclude: flags.values("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        if_exists: on("if-exists"),
    }
}
