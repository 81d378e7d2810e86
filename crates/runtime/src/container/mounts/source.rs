//! What the mounts of a specification are made from: detached trees, made while the host's files can still be seen.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cais_sys::mount::{self, Attributes, attribute};
use rustix::fs::{FileType, Mode, OFlags};

use super::options::Options;
use crate::cgroups::{Cgroup, MountPoint};
use crate::container::report::{Result, RuntimeError, during, plain};
use crate::spec::Mount;

/// What sources depend on.
pub struct Making<'a> {
    pub cgroup: &'a Cgroup,
    pub own_cgroup_namespace: bool,
    pub user_namespace: bool,
    /// Propagation that copies of the host's mounts get first: 0 where the mounts they are copied from have it.
    pub propagation: u64,
}

/// One mount to be, by its kind.
pub enum Source {
    Tree {
        tree: OwnedFd,
        directory: bool,
    },
    /// A tmpfs with one mount for each hierarchy of version 1.
    Hierarchies {
        holder: OwnedFd,
        trees: Vec<(MountPoint, OwnedFd)>,
    },
    /// The mount that is at the destination.
    Destination,
}

impl Making<'_> {
    /// Makes the source of a mount; `id_map` is the user namespace that it is mapped by.
    pub fn source(
        &self,
        wanted: &Mount,
        options: &Options<'_>,
        id_map: Option<&OwnedFd>,
    ) -> Result<Source> {
        let kind = wanted.kind.as_deref();
        if matches!(kind, Some("cgroup" | "cgroup2")) {
            return self.cgroups(options.own.set);
        }
        if options.remount {
            return Ok(Source::Destination);
        }
        if options.bind || kind == Some("bind") {
            return self.bound(wanted, options, id_map);
        }
        Ok(Source::Tree {
            tree: self.file_system(wanted, options)?,
            directory: true,
        })
    }

    /// A copy of the host's mount at an open place.
    pub fn copy(&self, place: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
        let tree = mount::copy(place, recursive)?;
        let cut = Attributes {
            propagation: self.propagation,
            ..Attributes::default()
        };
        mount::set_attributes(tree.as_fd(), cut, true, None)?;
        Ok(tree)
    }

    /// A copy of the host's mount with the attributes asked for.
    fn bound(
        &self,
        wanted: &Mount,
        options: &Options<'_>,
        id_map: Option<&OwnedFd>,
    ) -> Result<Source> {
        let path = wanted.source.as_deref().unwrap_or_default();
        let source = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(during(path))?;
        let kind = rustix::fs::fstat(&source).map_err(during(path))?.st_mode;
        let tree = self
            .copy(source.as_fd(), options.bind_recursive)
            .map_err(during("bind"))?;
        if let Some(namespace) = id_map {
            let mapped = Attributes {
                set: attribute::ID_MAPPED,
                ..Attributes::default()
            };
            let recursive = options.id_map == Some(true);
            mount::set_attributes(tree.as_fd(), mapped, recursive, Some(namespace.as_fd()))
                .map_err(during("idmap"))?;
        }
        set_bind_attributes(tree.as_fd(), options.own, self.user_namespace)?;
        mount::set_attributes(tree.as_fd(), options.recursive, true, None)
            .map_err(during("recursive attributes"))?;
        Ok(Source::Tree {
            tree,
            directory: FileType::from_raw_mode(kind) == FileType::Directory,
        })
    }

    fn file_system(&self, wanted: &Mount, options: &Options<'_>) -> Result<OwnedFd> {
        let kind = wanted.kind.as_deref().unwrap_or_default();
        let source = wanted.source.as_deref();
        let attributes = options.own.set | options.recursive.set;
        match mount::new(kind, source, &options.data, attributes) {
            // A mqueue or sysfs of a foreign namespace cannot be made: the host's is as good.
            Err(error) if kind == "sysfs" && error.kind() == io::ErrorKind::PermissionDenied => {
                let host = rustix::fs::open("/sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .map_err(during("/sys"))?;
                let tree = self.copy(host.as_fd(), true).map_err(during("bind /sys"))?;
                let flags = Attributes {
                    set: attributes,
                    ..Attributes::default()
                };
                mount::set_attributes(tree.as_fd(), flags, true, None)
                    .map_err(during("attributes"))?;
                Ok(tree)
            }
            result => result.map_err(|error| RuntimeError::invalid(plain(&error))),
        }
    }

    /// `/sys/fs/cgroup`: one mount on v2, a tmpfs with one mount per hierarchy on v1.
    fn cgroups(&self, flags: u64) -> Result<Source> {
        let mut trees = Vec::new();
        for point in self.cgroup.mount_points() {
            let tree = self.cgroup_tree(&point, flags)?;
            if point.name.is_empty() {
                return Ok(Source::Tree {
                    tree,
                    directory: true,
                });
            }
            trees.push((point, tree));
        }
        let holder = mount::new(
            "tmpfs",
            Some("tmpfs"),
            &[("mode", Some("0755"))],
            flags & !attribute::READ_ONLY,
        )
        .map_err(during("tmpfs"))?;
        Ok(Source::Hierarchies { holder, trees })
    }

    fn cgroup_tree(&self, point: &MountPoint, flags: u64) -> Result<OwnedFd> {
        if self.own_cgroup_namespace {
            let options: Vec<_> = point
                .options
                .split(',')
                .filter(|option| !option.is_empty())
                .map(|option| {
                    option
                        .split_once('=')
                        .map_or((option, None), |(key, value)| (key, Some(value)))
                })
                .collect();
            if let Ok(tree) = mount::new(point.kind, Some("cgroup"), &options, flags) {
                return Ok(tree);
            }
        }
        let host = &point.host_directory;
        let directory = rustix::fs::open(
            host,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(during(host.display()))?;
        let tree = self
            .copy(directory.as_fd(), false)
            .map_err(during("bind"))?;
        let attributes = Attributes {
            set: flags,
            ..Attributes::default()
        };
        mount::set_attributes(tree.as_fd(), attributes, false, None)
            .map_err(during("attributes"))?;
        Ok(tree)
    }
}

/// In a user namespace flags that the source is locked with cannot be cleared; that is no reason to fail unless they were to be.
pub fn set_bind_attributes(
    tree: BorrowedFd<'_>,
    attributes: Attributes,
    user_namespace: bool,
) -> Result<()> {
    match mount::set_attributes(tree, attributes, false, None) {
        Err(error)
            if user_namespace
                && error.kind() == io::ErrorKind::PermissionDenied
                && attributes.set != 0 =>
        {
            let only_set = Attributes {
                set: attributes.set,
                ..Attributes::default()
            };
            mount::set_attributes(tree, only_set, false, None).map_err(during("attributes"))
        }
        result => result.map_err(during("attributes")),
    }
}
