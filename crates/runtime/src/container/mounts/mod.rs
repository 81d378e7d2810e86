//! The mounts of a specification (config.md, "Mounts"; options as mount(8) and runc know them).
//!
//! All of them are made first, attached nowhere, and then attached one after another: the first needs the host's files, the
//! second the container's root and its own mounts.

mod id_maps;
mod options;
mod source;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cais_sys::mount::{self, Attributes, attribute};
use cais_sys::path_in_root;
use rustix::fs::{FileType, Mode, OFlags};

pub use id_maps::id_maps;
use options::Options;
pub use options::known_options;
pub use source::Making;
use source::{Source, set_bind_attributes};

use super::report::{Result, RuntimeError, during};
use crate::cgroups::MountPoint;
use crate::spec::{Mount, Spec};

/// A mount that has no place yet.
pub struct Unplaced<'a> {
    wanted: &'a Mount,
    options: Options<'a>,
    source: Source,
}

/// Makes what all mounts are made from; `id_maps` are the user namespaces of [`id_maps`].
pub fn make<'a>(
    making: &Making<'_>,
    spec: &'a Spec,
    id_maps: &[(usize, OwnedFd)],
) -> Result<Vec<Unplaced<'a>>> {
    let made = spec.mounts.iter().enumerate().map(|(index, wanted)| {
        let id_map = id_maps.iter().find(|(of, _)| *of == index);
        let options = Options::parse(&wanted.options);
        let source = making
            .source(wanted, &options, id_map.map(|(_, namespace)| namespace))
            .map_err(|error| failed(wanted, error))?;
        Ok(Unplaced {
            wanted,
            options,
            source,
        })
    });
    made.collect()
}

impl Unplaced<'_> {
    /// Attaches it below the container's root.
    pub fn place(self, root: BorrowedFd<'_>, user_namespace: bool) -> Result<()> {
        let Self {
            wanted,
            options,
            source,
        } = self;
        let placed = match source {
            Source::Tree { tree, directory } => attach(root, wanted, &options, &tree, directory),
            Source::Hierarchies { holder, trees } => {
                hierarchies(root, wanted, &holder, trees, options.own.set)
            }
            Source::Destination => remount(root, wanted, &options, user_namespace),
        };
        placed.map_err(|error| failed(wanted, error))
    }
}

fn failed(wanted: &Mount, error: RuntimeError) -> RuntimeError {
    RuntimeError {
        message: format!(
            "error mounting {:?} to rootfs at {:?}: {}",
            wanted.source.as_deref().unwrap_or_default(),
            wanted.destination.display().to_string(),
            error.message
        ),
        ..error
    }
}

fn attach(
    root: BorrowedFd<'_>,
    wanted: &Mount,
    options: &Options<'_>,
    tree: &OwnedFd,
    directory: bool,
) -> Result<()> {
    let place = place(root, wanted, directory)?;
    check_proc(wanted, tree.as_fd(), place.as_fd())?;
    if options.copy_up {
        copy_up(place.as_fd(), tree.as_fd())?;
    }
    mount::attach(tree.as_fd(), place.as_fd()).map_err(during("attach"))?;
    if options.propagation != 0 {
        let propagation = Attributes {
            propagation: options.propagation,
            ..Attributes::default()
        };
        mount::set_attributes(
            tree.as_fd(),
            propagation,
            options.propagation_recursive,
            None,
        )
        .map_err(during("propagation"))?;
    }
    Ok(())
}

fn remount(
    root: BorrowedFd<'_>,
    wanted: &Mount,
    options: &Options<'_>,
    user_namespace: bool,
) -> Result<()> {
    if let Some((name, _)) = options.data.first() {
        return Err(RuntimeError::invalid(format!(
            "a remount cannot change {name:?}, only flags of the mount"
        )));
    }
    // Resolved anew, so that it is what lies on top.
    let path = &wanted.destination;
    let top = path_in_root::open(root, path, OFlags::PATH, Mode::empty())
        .map_err(during(path.display()))?;
    set_bind_attributes(top.as_fd(), options.own, user_namespace)?;
    mount::set_attributes(top.as_fd(), options.recursive, true, None)
        .map_err(during("recursive attributes"))
}

/// Opens the mount point below the root, made when it is missing. A symbolic link in the image must not move `/proc` and `/sys`
/// elsewhere (CVE-2019-19921, CVE-2023-27561).
fn place(root: BorrowedFd<'_>, wanted: &Mount, directory: bool) -> Result<OwnedFd> {
    let path = &wanted.destination;
    let step = || format!("mount point {}", path.display());
    let place = if directory {
        path_in_root::directory(root, path)
    } else {
        path_in_root::file(root, path)
    };
    let place = place.map_err(during(step()))?;
    let kind = wanted.kind.as_deref();
    if matches!(kind, Some("proc" | "sysfs")) {
        let strict = rustix::fs::openat2(
            root,
            path.strip_prefix("/").unwrap_or(path),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            rustix::fs::ResolveFlags::NO_SYMLINKS | rustix::fs::ResolveFlags::IN_ROOT,
        );
        return strict.map_err(|_| {
            RuntimeError::invalid(format!(
                "{} must be mounted on an ordinary directory",
                path.display()
            ))
        });
    }
    Ok(place)
}

/// Only a procfs may take the place of `/proc` (CVE-2019-16884: an image's volume there would be believed by whatever writes
/// labels and sysctls), and below it only what lxcfs and the like need may be covered.
fn check_proc(wanted: &Mount, tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<()> {
    const ALLOWED: [&str; 11] = [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    ];
    const PROC_MAGIC: i64 = 0x9fa0;
    let path = &wanted.destination;
    let is_proc = |file: BorrowedFd<'_>| match rustix::fs::fstatfs(file) {
        Ok(found) => Ok(found.f_type == PROC_MAGIC),
        Err(errno) => Err(during(path.display())(errno)),
    };
    let refused = |why: &str| {
        let path = path.display().to_string();
        let text = format!("{path:?} cannot be mounted because it is {why}");
        Err(RuntimeError::invalid(text))
    };
    if path == Path::new("/proc") {
        return if is_proc(tree)? {
            Ok(())
        } else {
            refused("not of type proc")
        };
    }
    let name = path.strip_prefix("/proc").ok().and_then(Path::to_str);
    if is_proc(place)? && !name.is_some_and(|name| ALLOWED.contains(&name)) {
        return refused("inside /proc");
    }
    Ok(())
}

/// Copies what a tmpfs will cover into it: files, directories and links of the covered directory.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let open = |directory: BorrowedFd<'_>| {
        rustix::fs::openat(
            directory,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let (from, to) = (
        open(from).map_err(during("tmpcopyup"))?,
        open(to).map_err(during("tmpcopyup"))?,
    );
    copy_directory(&from, &to).map_err(during("tmpcopyup"))
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    use rustix::fs::{
        AtFlags, Dir, Gid, Uid, chownat, fchmod, mkdirat, openat, readlinkat, statat, symlinkat,
    };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, mode)?;
                let inner = openat(to, name, read | OFlags::DIRECTORY, Mode::empty())?;
                copy_directory(
                    &openat(from, name, read | OFlags::DIRECTORY, Mode::empty())?,
                    &inner,
                )?;
                fchmod(&inner, mode)?;
            }
            FileType::RegularFile => {
                let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let target = openat(to, name, create, mode)?;
                fchmod(&target, mode)?;
                io::copy(
                    &mut std::fs::File::from(openat(from, name, read, Mode::empty())?),
                    &mut std::fs::File::from(target),
                )?;
            }
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
            _ => continue,
        }
        chownat(
            to,
            name,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// The hierarchies of version 1 below their tmpfs.
fn hierarchies(
    root: BorrowedFd<'_>,
    wanted: &Mount,
    holder: &OwnedFd,
    trees: Vec<(MountPoint, OwnedFd)>,
    flags: u64,
) -> Result<()> {
    let place = place(root, wanted, true)?;
    mount::attach(holder.as_fd(), place.as_fd()).map_err(during("attach"))?;
    for (point, tree) in trees {
        let name = Path::new(&point.name);
        rustix::fs::mkdirat(holder, name, Mode::from_raw_mode(0o755)).map_err(during("mkdir"))?;
        let below = rustix::fs::openat(
            holder,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(during("open"))?;
        mount::attach(tree.as_fd(), below.as_fd()).map_err(during(&point.name))?;
        for link in &point.links {
            rustix::fs::symlinkat(name, holder, link.as_str()).map_err(during("symlink"))?;
        }
    }
    if flags & attribute::READ_ONLY != 0 {
        let read_only = Attributes {
            set: attribute::READ_ONLY,
            ..Attributes::default()
        };
        mount::set_attributes(holder.as_fd(), read_only, false, None)
            .map_err(during("read-only"))?;
    }
    Ok(())
}
