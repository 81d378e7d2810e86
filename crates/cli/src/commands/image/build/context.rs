//! The context that is sent: a directory as a tar archive, without what the ignore file names, or standard input.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cais_build::directory::{Directory, Extra};
use cais_build::dockerfile::Source;
use cais_build::dockerfile::context_source::ContextSource;
use cais_build::dockerfile::git_ref::GitRef;
use cais_build::dockerfile::ignore::{Ignore, names};
use cais_build::git::Git;
use cais_build::listing;
use cais_client::body::Body;
use tempfile::TempDir;

use super::body::{self, Answer, Failure};
use crate::archive;
use crate::error::{CliError, Result};

/// What is sent.
pub struct Context {
    pub content: Content,
    /// The Dockerfile's name within the context.
    pub dockerfile: String,
    /// A context that the daemon fetches itself.
    pub remote: Option<String>,
}

/// The files of a context.
pub enum Content {
    /// An archive, or nothing.
    Body(Body),
    /// A directory that may be here for the next build as well.
    Directory(Directory),
}

/// How a directory is sent.
#[derive(Clone, Copy)]
pub struct Form {
    /// As a list of what there is, to a daemon that may have it.
    pub listed: bool,
    pub compress: bool,
}

impl Content {
    /// The body of the request with the other directories, its type, and who waits for what is wanted of it.
    ///
    /// # Errors
    /// Directories beside something else than a directory.
    pub fn body(
        self,
        named: Vec<(String, Directory)>,
        form: Form,
        failure: &Failure,
    ) -> Result<(&'static str, Body, Option<Answer>)> {
        match self {
            Self::Directory(directory) if form.listed => {
                let mut directories = vec![(String::new(), directory)];
                directories.extend(named);
                let (body, answer) = body::listed(directories, failure);
                Ok((listing::MEDIA_TYPE, body, Some(answer)))
            }
            _ if !named.is_empty() => Err(CliError::new(
                "--build-context with a directory wants a directory as the context of the build too",
            )),
            Self::Directory(directory) => {
                let body = match form.compress {
                    true => body::compressed(directory, failure),
                    false => body::archive(directory, None, failure),
                };
                Ok(("application/x-tar", body, None))
            }
            Self::Body(body) => Ok(("application/x-tar", body, None)),
        }
    }
}

/// Finds the context and the Dockerfile.
///
/// # Errors
/// Paths that are missing, or a bad ignore file.
pub fn source(path: &str, file: &str) -> Result<Context> {
    match ContextSource::parse(path).map_err(CliError::new)? {
        ContextSource::Stdin if file == "-" => Err(CliError::new(
            "invalid argument: can't use stdin for both build context and dockerfile",
        )),
        ContextSource::Stdin => Ok(Context {
            content: Content::Body(archive::source("-")?),
            dockerfile: file.to_owned(),
            remote: None,
        }),
        ContextSource::Http(url) => Ok(Context {
            content: Content::Body(Body::Empty),
            dockerfile: file.to_owned(),
            remote: Some(url),
        }),
        ContextSource::Git(repository) => checkout(&repository, file),
        ContextSource::Directory(path) => directory(Path::new(&path), file, None),
    }
}

/// A Dockerfile read for its checks, and what of the context it can't see.
pub struct Checked {
    pub source: Source,
    pub ignore: Ignore,
}

/// Reads the Dockerfile of a directory; none where it comes from standard input or the daemon fetches it.
///
/// # Errors
/// Paths that are missing, or a bad ignore file.
pub fn checked(path: &str, file: &str) -> Result<Option<Checked>> {
    let ContextSource::Directory(path) = ContextSource::parse(path).map_err(CliError::new)? else {
        return Ok(None);
    };
    let root = Path::new(&path).canonicalize();
    let Some(root) = root.ok().filter(|_| file != "-") else {
        return Ok(None);
    };
    let (name, extra) = dockerfile(&root, file)?;
    let bytes = match extra {
        Some(extra) => extra.text,
        None => fs::read(root.join(&name))?,
    };
    let shown = Path::new(if file.is_empty() { "Dockerfile" } else { file }).file_name();
    Ok(Some(Checked {
        ignore: ignore(&root, &name)?,
        source: Source {
            name: shown.unwrap_or_default().to_string_lossy().into_owned(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        },
    }))
}

/// A repository, fetched here: the user's keys and helpers open it. The Dockerfile is one of its own.
fn checkout(repository: &GitRef, file: &str) -> Result<Context> {
    let scratch = tempfile::Builder::new().prefix("cais-context-").tempdir()?;
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let git = Git {
        search_path: &search_path,
        as_user: true,
    };
    let failed = |error| CliError::new(format!("unable to prepare context: {error}"));
    let tree = git.checkout(repository, scratch.path()).map_err(failed)?;
    stays_inside(&tree, file)?;
    let file = match file {
        "" | "-" => file.to_owned(),
        file => {
            let path = tree.join(file.trim_start_matches('/'));
            path.to_string_lossy().into_owned()
        }
    };
    directory(&tree, &file, Some(scratch))
}

/// A link of a repository must not lead to files of this host.
fn stays_inside(tree: &Path, file: &str) -> Result<()> {
    let named = if file.is_empty() { "Dockerfile" } else { file };
    let ignore_files = names(named).into_iter();
    for name in ignore_files.chain([named.to_owned()]) {
        let real = tree.join(name.trim_start_matches('/')).canonicalize();
        if real.is_ok_and(|real| !real.starts_with(tree)) {
            return Err(CliError::new(format!(
                "unable to prepare context: {name} leads out of the repository"
            )));
        }
    }
    Ok(())
}

/// `scratch` goes when all is sent.
fn directory(path: &Path, file: &str, scratch: Option<TempDir>) -> Result<Context> {
    let root = path.canonicalize().map_err(|_| {
        CliError::new(format!(
            "unable to prepare context: path {:?} not found",
            path.display()
        ))
    })?;
    if !root.is_dir() {
        let text = format!(
            "unable to prepare context: context must be a directory: {}",
            path.display()
        );
        return Err(CliError::new(text));
    }
    let (dockerfile, extra) = dockerfile(&root, file)?;
    let ignore = ignore(&root, &dockerfile)?;
    // The daemon needs them.
    let always = [dockerfile.as_str(), ".dockerignore"];
    let directory = Directory::find(root, &ignore, &always, extra)?;
    let content = match scratch {
        Some(scratch) => {
            let nobody_changes_it = Failure::default();
            Content::Body(body::archive(directory, Some(scratch), &nobody_changes_it))
        }
        None => Content::Directory(directory),
    };
    Ok(Context {
        content,
        dockerfile,
        remote: None,
    })
}

/// The name of the Dockerfile in the context, and its text when it is not in there.
fn dockerfile(root: &Path, file: &str) -> Result<(String, Option<Extra>)> {
    let missing = |path: &Path, error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        let text = format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {reason}",
            path.display()
        );
        CliError::new(text)
    };
    if file == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok(beside(text));
    }
    let path = if file.is_empty() {
        root.join("Dockerfile")
    } else {
        PathBuf::from(file)
    };
    let real = path.canonicalize().map_err(|error| missing(&path, error))?;
    match real.strip_prefix(root) {
        Ok(within) => Ok((within.to_string_lossy().into_owned(), None)),
        Err(_) => Ok(beside(
            fs::read(&real).map_err(|error| missing(&path, error))?,
        )),
    }
}

fn beside(text: Vec<u8>) -> (String, Option<Extra>) {
    let name = format!(".dockerfile.{}", std::process::id());
    let extra = Extra {
        name: name.clone(),
        text,
    };
    (name, Some(extra))
}

fn ignore(root: &Path, dockerfile: &str) -> Result<Ignore> {
    for name in names(dockerfile) {
        match fs::read_to_string(root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let text = text?;
                return Ignore::parse(&text).map_err(|error| CliError::new(error.to_string()));
            }
        }
    }
    Ok(Ignore::default())
}
