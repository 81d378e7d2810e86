//! What the words of a build name as context: the PATH argument, and the values of `--build-context`.

use super::git_ref::GitRef;

/// The main context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// `-`: a tar archive or a Dockerfile on standard input.
    Stdin,
    Directory(String),
    Git(GitRef),
    /// A tar archive or a Dockerfile behind a URL.
    Http(String),
}

impl ContextSource {
    /// Reads the PATH argument.
    ///
    /// # Errors
    /// A repository whose query, reference or directory is bad.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if let Some(git) = GitRef::parse(text)? {
            return Ok(Self::Git(git));
        }
        Ok(if web(text) {
            Self::Http(text.to_owned())
        } else {
            Self::Directory(text.to_owned())
        })
    }
}

/// A context that stages and `--from` can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory that the client sends.
    Local(String),
    /// An image, as a reference.
    Image(String),
    /// An image in an OCI layout: its directory and digest.
    OciLayout {
        path: String,
        digest: String,
    },
    Git(GitRef),
    Http(String),
    /// The result of another target.
    Input(String),
}

impl NamedContext {
    /// Reads the value of a named context, as front ends get it or as the command line has it (a path alone).
    ///
    /// # Errors
    /// An empty value, or a layout without digest.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("invalid empty context value".to_owned());
        }
        if let Some(name) = text.strip_prefix("docker-image://") {
            return Ok(Self::Image(name.to_owned()));
        }
        if let Some(layout) = text.strip_prefix("oci-layout://") {
            let (path, digest) = layout.split_once('@').ok_or_else(|| {
                format!("invalid oci-layout format {layout:?}: a digest is required")
            })?;
            let (path, digest) = (path.to_owned(), digest.to_owned());
            return Ok(Self::OciLayout { path, digest });
        }
        if let Some(target) = text.strip_prefix("input:") {
            return Ok(Self::Input(target.to_owned()));
        }
        if let Some(path) = text.strip_prefix("local:") {
            return Ok(Self::Local(path.to_owned()));
        }
        if let Some(git) = GitRef::parse(text)? {
            return Ok(Self::Git(git));
        }
        Ok(if web(text) {
            Self::Http(text.to_owned())
        } else {
            Self::Local(text.to_owned())
        })
    }
}

fn web(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
