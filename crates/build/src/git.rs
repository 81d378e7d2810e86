//! Repositories as contexts and sources of ADD, by the git of the host. What comes from elsewhere gets no say in what git
//! does: no hooks, no local or external transports for submodules, no options where names are meant.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cais_types::Error;

use crate::dockerfile::git_ref::{GitRef, Mtime};

/// Transports that a repository and its submodules may use (CVE-2022-39253: never files of the host).
const TRANSPORTS: &str = "https:http:ssh:git+ssh:git";
/// Bytes a second, and seconds with less, after which a server is given up.
const SLOW: (&str, &str) = ("1000", "60");

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("unable to find 'git': it is needed for contexts in repositories")]
    Missing,
    #[error("unable to fetch {remote}: {text}")]
    Fetch { remote: String, text: String },
    #[error("expected checksum to match {want}, got {have}")]
    Checksum { want: String, have: String },
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
    #[error("no directory {0:?} in the repository")]
    Subdirectory(String),
    #[error("git: {0}")]
    Io(#[from] io::Error),
}

impl From<GitError> for Error {
    fn from(error: GitError) -> Self {
        let text = error.to_string();
        match error {
            GitError::NotBuilt(_) | GitError::Missing => Self::unsupported(text),
            GitError::Io(error) => Self::internal(text).with_source(error),
            _ => Self::invalid(text),
        }
    }
}

/// How git is run.
#[derive(Clone, Copy, Debug)]
pub struct Git<'a> {
    /// Where its program is looked for, as `PATH`.
    pub search_path: &'a OsStr,
    /// Whether configuration and credentials of the user count; not in a daemon.
    pub as_user: bool,
}

impl Git<'_> {
    /// Fetches a repository into an empty directory; answers the directory in it that is wanted, without links.
    ///
    /// # Errors
    /// Missing: there is no git. Fetch: what git says. Checksum: another commit than the one that is wanted.
    pub fn checkout(&self, repository: &GitRef, into: &Path) -> Result<PathBuf, GitError> {
        if repository.mtime == Some(Mtime::Commit) {
            return Err(GitError::NotBuilt("mtime=commit of a git repository"));
        }
        let run = |args: &[&str]| self.run(into, args);
        let fail = |text: String| GitError::Fetch {
            remote: without_password(&repository.remote),
            text,
        };
        check(run(&["init", "-q", "--template="])?).map_err(fail)?;
        let commit = self.fetch(repository, into)?;
        check(run(&["checkout", "-q", "--detach", &commit])?).map_err(fail)?;
        let head = check(run(&["rev-parse", "HEAD"])?).map_err(fail)?;
        if let Some(want) = repository.checksum.as_ref()
            && !head.starts_with(&want.to_ascii_lowercase())
        {
            return Err(GitError::Checksum {
                want: want.clone(),
                have: head,
            });
        }
        let submodules = into.join(".gitmodules").symlink_metadata().is_ok();
        if submodules && repository.submodules != Some(false) {
            // Relative addresses of submodules are relative to this.
            check(run(&["remote", "add", "origin", "--", &repository.remote])?).map_err(fail)?;
            let update = [
                "submodule",
                "update",
                "-q",
                "--init",
                "--recursive",
                "--depth=1",
            ];
            check(run(&update)?).map_err(fail)?;
        }
        let subdirectory = repository.subdir.as_deref().unwrap_or("");
        let tree = within(into, subdirectory)?;
        if repository.keep_git_dir != Some(true) {
            remove_git(into)?;
        }
        Ok(tree)
    }

    /// Only what is wanted, where the server lets us; answers the name of the commit.
    fn fetch(&self, repository: &GitRef, into: &Path) -> Result<String, GitError> {
        let wanted = repository.reference.as_deref().unwrap_or("HEAD");
        let remote = repository.remote.as_str();
        let shallow = self.run(into, &["fetch", "-q", "--depth=1", "--", remote, wanted])?;
        let Err(why) = check(shallow) else {
            return Ok("FETCH_HEAD".to_owned());
        };
        // Commits by their digits, and servers without shallow clones, need everything.
        let all = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        ];
        let whole = self.run(into, &["fetch", "-q", "--", remote, all[0], all[1]])?;
        let names = [
            format!("refs/remotes/origin/{wanted}"),
            format!("refs/tags/{wanted}"),
            wanted.to_owned(),
        ];
        for name in names.iter().filter(|_| whole.status.success()) {
            let commit = format!("{name}^{{commit}}");
            let found = self.run(
                into,
                &["rev-parse", "-q", "--verify", "--end-of-options", &commit],
            )?;
            if let Ok(id) = check(found)
                && !id.is_empty()
            {
                // Of several lines the last is the id: some versions repeat the option.
                return Ok(id.lines().last().unwrap_or_default().to_owned());
            }
        }
        Err(GitError::Fetch {
            remote: without_password(remote),
            text: why,
        })
    }

    fn run(&self, directory: &Path, args: &[&str]) -> Result<Output, GitError> {
        let program = program(self.search_path).ok_or(GitError::Missing)?;
        let mut command = Command::new(program);
        command
            .current_dir(directory)
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "core.fsmonitor=false",
            ])
            .args([
                "-c",
                "protocol.file.allow=never",
                "-c",
                "protocol.ext.allow=never",
            ])
            .args(["-c", "safe.directory=*", "-c", "advice.detachedHead=false"])
            .args(args)
            .env("GIT_ALLOW_PROTOCOL", TRANSPORTS)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", SLOW.0)
            .env("GIT_HTTP_LOW_SPEED_TIME", SLOW.1)
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null());
        if !self.as_user {
            command
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=30");
        }
        Ok(command.output()?)
    }
}

/// What git prints when it goes well, else why it does not.
fn check(output: Output) -> Result<String, String> {
    let text = if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(text).trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

/// Only absolute directories: nothing of the working directory is run (CVE-2025-15558).
fn program(search_path: &OsStr) -> Option<PathBuf> {
    let directories = std::env::split_paths(search_path).filter(|path| path.is_absolute());
    let mut candidates = directories.map(|path| path.join("git"));
    candidates.find(|path| path.is_file())
}

/// A directory of the checkout; links on the way stay within it (CVE-2026-33748).
fn within(root: &Path, subdirectory: &str) -> Result<PathBuf, GitError> {
    let missing = || GitError::Subdirectory(subdirectory.to_owned());
    let root = root.canonicalize()?;
    let relative = Path::new(subdirectory);
    if relative
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err(missing());
    }
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let found = root.join(relative).canonicalize().map_err(|_| missing())?;
    let inside = found.starts_with(&root) && !found.starts_with(root.join(".git"));
    if inside && found.is_dir() {
        Ok(found)
    } else {
        Err(missing())
    }
}

/// Takes the repository's own files away, and those of its submodules.
fn remove_git(directory: &Path) -> io::Result<()> {
    let own = directory.join(".git");
    match own.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&own)?,
        Ok(_) => std::fs::remove_file(&own)?,
        Err(_) => {}
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_git(&entry.path())?;
        }
    }
    Ok(())
}

/// A remote as it may be shown.
fn without_password(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else {
        return remote.to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx@{host}/{path}"),
        None => remote.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            without_password("https://me:word@h/p.git"),
            "https://xxxxx@h/p.git"
        );
        assert_eq!(without_password("https://h/p@q.git"), "https://h/p@q.git");
        assert_eq!(without_password("git@h:p.git"), "git@h:p.git");
    }

    #[test]
    fn cve_2026_33748_a_subdirectory_stays_in_the_repository() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("checkout");
        std::fs::create_dir_all(root.join("in/.git")).unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(scratch.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink("in", root.join("door")).unwrap();
        assert!(within(&root, "in").is_ok() && within(&root, "").is_ok());
        assert!(
            within(&root, "door").unwrap().ends_with("in"),
            "a link within"
        );
        for bad in [
            "out",
            "..",
            "in/../..",
            "out/checkout/..",
            "/etc",
            "file",
            ".git",
            "none",
        ] {
            assert!(within(&root, bad).is_err(), "{bad}");
        }
    }
}
