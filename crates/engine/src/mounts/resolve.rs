//! Wishes become sources on the host: volumes are acquired and filled, bind sources are checked or made.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use cais_types::error::plain;
use cais_types::{ContainerId, Error, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::{MountKind, MountRecord};
use crate::ports::{OverlayDirs, VolumeStore};
use crate::rootview;

/// Acquires what the mounts of one new container need.
pub struct Resolver<'a> {
    pub volumes: &'a dyn VolumeStore,
    pub container: &'a ContainerId,
}

impl Resolver<'_> {
    /// Fills in names and sources of volumes, and fills empty ones from the image. Bind sources of `--mount` must exist.
    /// On failure the caller releases the container's volumes.
    ///
    /// # Errors
    /// `invalid mount config for type "bind": bind source path does not exist: /x`, and those of the volume store.
    pub fn resolve(&self, mounts: &mut [MountRecord], dirs: &OverlayDirs) -> Result<()> {
        let mut root = None;
        for mount in mounts {
            match mount.kind {
                MountKind::Tmpfs => {}
                MountKind::Bind => check_bind(mount)?,
                MountKind::Volume => {
                    let name = (!mount.name.is_empty()).then_some(mount.name.as_str());
                    let (name, path) = self.volumes.acquire(name, &mount.driver, self.container)?;
                    mount.name = name;
                    mount.source = path.to_string_lossy().into_owned();
                    if mount.no_copy || !mount.subpath.is_empty() {
                        continue;
                    }
                    if root.is_none() {
                        root = Some(rootview::mount(dirs).map_err(|error| {
                            Error::internal(format!("cannot look into the image: {error}"))
                        })?);
                    }
                    let Some(root) = &root else { continue };
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    let found = rootview::open_in_root(root.as_fd(), &mount.destination, flags);
                    if let Ok(directory) = found {
                        self.volumes.copy_up(&mount.name, directory)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_bind(mount: &MountRecord) -> Result<()> {
    if mount.create_source || Path::new(&mount.source).exists() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        mount.source
    )))
}

/// A directory of a volume must be reached without symbolic links: a container that writes to the volume could point them
/// anywhere on the host.
fn check_subpath(mount: &MountRecord) -> Result<()> {
    if mount.subpath.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = openat(CWD, &mount.source, flags | OFlags::DIRECTORY, Mode::empty())
        .and_then(|root| openat2(root, &mount.subpath, flags, Mode::empty(), resolve));
    match opened {
        Ok(_) => Ok(()),
        Err(errno) => {
            let path = format!("{}/{}", mount.source, mount.subpath);
            let reason = plain(&errno.into());
            Err(Error::invalid(format!(
                "cannot access path {path}: lstat {path}: {reason}"
            )))
        }
    }
}

/// Before every start: makes missing directories of `-v` binds, and finds that other sources are still there.
///
/// # Errors
/// Docker's `error while creating mount source path '/x': ...` and `bind source path does not exist: /x`.
pub fn prepare_sources(mounts: &[MountRecord]) -> Result<()> {
    mounts.iter().try_for_each(check_subpath)?;
    for mount in mounts.iter().filter(|mount| mount.kind == MountKind::Bind) {
        if !mount.create_source {
            check_bind(mount)?;
            continue;
        }
        if std::fs::symlink_metadata(&mount.source).is_ok() {
            continue;
        }
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&mount.source);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::internal(format!(
                    "error while creating mount source path '{}': mkdir {}: {}",
                    mount.source,
                    mount.source,
                    plain(&error)
                )));
            }
            _ => {}
        }
    }
    Ok(())
}
