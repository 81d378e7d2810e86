//! Paths of other trees, attached at places of the host while a step sees them. A path is resolved once and what was found is
//! attached, so that nobody can put a link in its place afterwards (CVE-2024-23651).

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_build::ports::TreeRoot;
use cais_images::Store;
use cais_sys::overlay::{self, Upper};
use cais_sys::{mount, path_in_root};
use cais_types::{ContainerId, Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::context;

/// The tree a path is in, and the path itself: places below the directory of an attached tree.
const PLACES: [&str; 2] = ["path", "root"];

/// Attaches trees.
pub struct Trees {
    pub store: Arc<Store>,
    pub directory: PathBuf,
}

/// A path that is attached until this is dropped.
pub struct Attached {
    directory: PathBuf,
    layer: Option<(Arc<Store>, ContainerId)>,
}

impl Attached {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join("path")
    }

    /// A name in its root.
    pub fn inside(&self, name: &str) -> PathBuf {
        self.directory.join("root").join(name)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        detach(&self.directory);
        if let Some((store, id)) = &self.layer
            && let Err(error) = store.remove(id)
        {
            tracing::warn!(%error, "the tree of a mount stays");
        }
    }
}

impl Trees {
    /// A path of a tree; what is written goes to a layer that is dropped.
    pub fn attach(&self, root: &TreeRoot, path: &str) -> Result<Attached> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?);
        let mut attached = self.place(&id)?;
        let tree = match root {
            TreeRoot::Image(image) => {
                attached.layer = Some((Arc::clone(&self.store), id));
                self.store.create(&id, image)?;
                let mut dirs = self.store.dirs(&id, image)?;
                if dirs.lower.len() > 1 {
                    // The first holds what the engine puts into containers; the image has none of it.
                    dirs.lower.remove(0);
                }
                passing(&dirs.lower, &dirs.upper, &dirs.work).map_err(failed)?
            }
            TreeRoot::Context(files) => over(files, &attached.directory).map_err(failed)?,
        };
        show(&attached.directory, tree, path)?;
        Ok(attached)
    }

    /// A path below a directory of the host, as it is.
    pub fn attach_directory(&self, directory: &Path, path: &str) -> Result<Attached> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?);
        let attached = self.place(&id)?;
        show(&attached.directory, open(directory)?, path)?;
        Ok(attached)
    }

    /// An empty file system of memory, which is never swapped out where the kernel can promise it (Linux 6.4).
    pub fn memory(&self) -> Result<Attached> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?);
        let attached = self.place(&id)?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        let root = attached.directory.join("root");
        let mount = |options: &CStr| rustix::mount::mount("tmpfs", &root, "tmpfs", flags, options);
        mount(c"mode=0755,size=1m,noswap")
            .or_else(|_| mount(c"mode=0755,size=1m"))
            .map_err(|errno| failed(errno.into()))?;
        Ok(attached)
    }

    /// A directory of a tree, to be read.
    pub fn open(&self, root: &TreeRoot, path: &str) -> Result<OwnedFd> {
        let root = match root {
            TreeRoot::Image(image) => self.store.open_image_root(image)?,
            TreeRoot::Context(files) => open(files)?,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let found = path_in_root::open(root.as_fd(), Path::new(path), flags, Mode::empty());
        found.map_err(|error| missing(path, &error))
    }

    fn place(&self, id: &ContainerId) -> Result<Attached> {
        let directory = self.directory.join(id.to_string());
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory.join("root")).map_err(failed)?;
        Ok(Attached {
            directory,
            layer: None,
        })
    }
}

/// Detaches what a daemon that was killed left attached.
pub fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        detach(&entry.path());
    }
}

fn detach(directory: &Path) {
    for place in PLACES {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        // What is not attached need not be detached.
        let _ = rustix::mount::unmount(directory.join(place), flags);
    }
    if let Err(error) = context::remove(directory) {
        tracing::warn!(%error, directory = %directory.display(), "the place of a mount stays");
    }
}

/// A directory under a layer of its own.
fn over(files: &Path, directory: &Path) -> std::io::Result<OwnedFd> {
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    for path in [&upper, &work] {
        fs::create_dir(path)?;
        // The upper directory's mode is that of the tree's root.
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    passing(&[files.to_owned()], &upper, &work)
}

/// A mount whose writable layer goes with it.
fn passing(lower: &[PathBuf], upper: &Path, work: &Path) -> std::io::Result<OwnedFd> {
    let upper = Upper {
        files: upper,
        work,
        durable: false,
    };
    overlay::mount(lower, Some(upper))
}

/// Attaches a tree, and what a path in it leads to.
fn show(directory: &Path, tree: OwnedFd, path: &str) -> Result<()> {
    // A part of an attached mount is attached as a copy; what is attached nowhere yet is a whole mount.
    let tree = mount::copy(tree.as_fd(), false).unwrap_or(tree);
    let root = directory.join("root");
    mount::attach(tree.as_fd(), open(&root)?.as_fd()).map_err(failed)?;
    let root = open(&root)?;
    let found = path_in_root::open(root.as_fd(), Path::new(path), OFlags::PATH, Mode::empty())
        .map_err(|error| missing(path, &error))?;
    let place = place_for(directory, found.as_fd())?;
    let copy = mount::copy(found.as_fd(), false).map_err(failed)?;
    mount::attach(copy.as_fd(), place.as_fd()).map_err(failed)
}

/// An empty directory or file to attach something of the same kind at.
fn place_for(directory: &Path, found: BorrowedFd<'_>) -> Result<OwnedFd> {
    let stat = rustix::fs::fstat(found).map_err(|errno| failed(errno.into()))?;
    let place = directory.join("path");
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        fs::create_dir(&place).map_err(failed)?;
    } else {
        fs::File::create(&place).map_err(failed)?;
    }
    let name = CString::new(place.as_os_str().as_encoded_bytes());
    let name = name.map_err(|error| failed(error.into()))?;
    rustix::fs::open(&*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))
}

fn open(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| failed(errno.into()))
}

fn missing(path: &str, error: &std::io::Error) -> Error {
    Error::invalid(format!("failed to stat {path}: {error}"))
}

fn failed(error: std::io::Error) -> Error {
    Error::internal(format!("build mount: {error}")).with_source(error)
}
