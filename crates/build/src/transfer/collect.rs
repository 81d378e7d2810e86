//! From the words of a COPY to a list of files, directories and links.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_sys::path_in_root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};

use crate::dockerfile::ignore::{Ignore, clean};
use crate::dockerfile::path_pattern::PathPattern;

/// Directories deeper than this are refused.
const DEPTH_MAX: usize = 512;

/// Something to copy.
#[derive(Clone, Debug)]
pub struct Item {
    base: Arc<OwnedFd>,
    /// Below `base`.
    path: PathBuf,
    /// Whether links on the way are followed within `base`: what the user named is, what is found below it is not.
    follow: bool,
    /// Where it goes below the destination; empty for a single file that may take the destination's own name.
    pub target: PathBuf,
    /// Its own name, for a destination that is a directory.
    pub name: PathBuf,
    pub stat: Stat,
}

impl Item {
    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// A number that items found in one source have in common.
    pub fn source(&self) -> usize {
        Arc::as_ptr(&self.base).addr()
    }

    /// Opens a file's contents.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if self.follow {
            return path_in_root::open(self.base.as_fd(), &self.path, flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(
            &*self.base,
            &self.path,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Where a link points.
    pub fn link(&self) -> io::Result<CString> {
        Ok(rustix::fs::readlinkat(&*self.base, &self.path, Vec::new())?)
    }
}

/// What a COPY asks for.
#[derive(Debug, Default)]
pub struct Wanted {
    pub sources: Vec<String>,
    pub parents: bool,
    pub exclude: Vec<String>,
    /// No source there is no error.
    pub if_exists: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Collected {
    pub items: Vec<Item>,
    /// Sources, wildcards counted as what they match.
    pub sources: usize,
    /// Whether some source is a directory: then the destination is one.
    pub directory: bool,
}

impl Collected {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, mut other: Self) {
        self.items.append(&mut other.items);
        self.sources += other.sources;
        self.directory |= other.directory;
    }
}

/// Why files could not be found.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("stat {0}: file does not exist")]
    Missing(String),
    #[error("no source files were specified")]
    NoneMatched,
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("invalid pattern {0:?}: syntax error in pattern")]
    Pattern(String),
}

/// Finds everything that is to be copied, in order.
pub fn collect(root: OwnedFd, wanted: &Wanted) -> Result<Collected, CollectError> {
    let root = Arc::new(root);
    let exclude = Ignore::new(&wanted.exclude)
        .map_err(|_| CollectError::Pattern(wanted.exclude.join(",")))?;
    let mut collector = Collector {
        root,
        exclude,
        parents: wanted.parents,
        found: Collected::default(),
    };
    for source in &wanted.sources {
        match collector.source(source) {
            Err(CollectError::Missing(_)) if wanted.if_exists => {}
            result => result?,
        }
    }
    if collector.found.sources == 0 && !wanted.if_exists {
        return Err(CollectError::NoneMatched);
    }
    Ok(collector.found)
}

struct Collector {
    root: Arc<OwnedFd>,
    exclude: Ignore,
    parents: bool,
    found: Collected,
}

impl Collector {
    fn source(&mut self, source: &str) -> Result<(), CollectError> {
        let pivot = source.find("/./").filter(|_| self.parents);
        let path = clean(&format!("/{source}"));
        let path = path.trim_start_matches('/').to_owned();
        // What stays of the path below the destination with --parents.
        let dropped = pivot.map_or(0, |at| {
            let before = clean(&format!("/{}", &source[..at]));
            before.trim_start_matches('/').len()
        });
        if !path.contains(['*', '?', '[']) {
            return self.named(&path, dropped, source);
        }
        let pattern = if self.parents {
            PathPattern::with_double_star(&path)
        } else {
            PathPattern::new(&path)
        };
        let pattern = pattern.map_err(|_| CollectError::Pattern(source.to_owned()))?;
        let mut matches = Vec::new();
        let root = Arc::clone(&self.root);
        matching(root.as_fd(), &pattern, Path::new(""), 0, &mut matches)
            .map_err(|error| failed(&path, error))?;
        for path in matches {
            self.named(&path, dropped, &path)?;
        }
        Ok(())
    }

    /// One source that is there, or is missing.
    fn named(&mut self, path: &str, dropped: usize, shown: &str) -> Result<(), CollectError> {
        let open = path_in_root::open(
            self.root.as_fd(),
            Path::new(path),
            OFlags::PATH,
            Mode::empty(),
        );
        let open = match open {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CollectError::Missing(shown.to_owned()));
            }
            open => open.map_err(|error| failed(path, error))?,
        };
        let stat = rustix::fs::fstat(&open).map_err(|errno| failed(path, errno.into()))?;
        self.found.sources += 1;
        let name = Path::new(path)
            .file_name()
            .map_or_else(PathBuf::new, PathBuf::from);
        let kept = if self.parents {
            PathBuf::from(path[dropped..].trim_start_matches('/'))
        } else {
            PathBuf::new()
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if self.exclude.ignores(&name.to_string_lossy()) {
                return Ok(());
            }
            self.found.items.push(Item {
                base: Arc::clone(&self.root),
                path: path.into(),
                follow: true,
                target: kept,
                name,
                stat,
            });
            return Ok(());
        }
        self.found.directory = true;
        let base = Arc::new(open);
        if self.parents {
            self.found.items.push(Item {
                base: Arc::clone(&base),
                path: PathBuf::from("."),
                follow: false,
                target: kept.clone(),
                name,
                stat,
            });
        }
        self.below(&base, Path::new(""), &kept, 0)
            .map_err(|error| failed(path, error))
    }

    fn below(
        &mut self,
        base: &Arc<OwnedFd>,
        path: &Path,
        target: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(rustix::io::Errno::NAMETOOLONG.into());
        }
        let directory = open_below(base.as_fd(), path)?;
        for name in names(&directory)? {
            let stat = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let own = path.join(OsStr::from_bytes(name.to_bytes()));
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let text = own.to_string_lossy();
            let ignored = self.exclude.ignores(&text);
            if ignored && !(is_directory && self.exclude.may_except_below(&text)) {
                continue;
            }
            let place = target.join(OsStr::from_bytes(name.to_bytes()));
            if !ignored {
                self.found.items.push(Item {
                    base: Arc::clone(base),
                    path: own.clone(),
                    follow: false,
                    target: place.clone(),
                    name: PathBuf::from(OsStr::from_bytes(name.to_bytes())),
                    stat,
                });
            }
            if is_directory {
                self.below(base, &own, &place, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn failed(path: &str, source: io::Error) -> CollectError {
    CollectError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Paths below the root that match, in order; a directory that matches is not looked into.
fn matching(
    root: BorrowedFd<'_>,
    pattern: &PathPattern,
    path: &Path,
    depth: usize,
    found: &mut Vec<String>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    let directory = open_below(root, path)?;
    for name in names(&directory)? {
        let own = path.join(OsStr::from_bytes(name.to_bytes()));
        let text = own.to_string_lossy().into_owned();
        if pattern.matches(&text) {
            found.push(text);
            continue;
        }
        let stat = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            matching(root, pattern, &own, depth + 1, found)?;
        }
    }
    Ok(())
}

fn open_below(base: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(base, path, flags, Mode::empty(), resolve)?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
