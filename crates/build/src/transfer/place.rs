//! Putting files into a tree: parents are made, what is in the way of a file gives way, owner comes before mode.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_sys::path_in_root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, openat,
};
use rustix::io::Errno;

use super::adopt::Adopted;
use super::collect::{Collected, Item};
use super::mode::ModeChange;
use crate::dockerfile::ignore::clean;

/// Where files go and what they become.
#[derive(Debug)]
pub struct Placer {
    pub root: OwnedFd,
    /// User and group of everything that is made; none leaves what is copied to whom it belonged.
    pub owner: Option<(u32, u32)>,
    pub mode: Option<ModeChange>,
}

/// What one copy knows of what it has placed.
#[derive(Default)]
struct Placed<'a, 'm> {
    /// Files with several names within a source, and where they were placed first.
    links: BTreeMap<(usize, u64, u64), PathBuf>,
    /// The directory that the last file went to: files come directory by directory.
    parent: Option<Parent>,
    adopted: Option<&'a mut Adopted<'m>>,
    /// Directories, which get their times when everything is in them.
    directories: Vec<(PathBuf, Timestamps)>,
}

/// An open directory.
struct Parent {
    path: PathBuf,
    directory: OwnedFd,
    /// Its path from the root of the tree, without links.
    real: PathBuf,
}

/// Links to nowhere that are followed on the way to one directory.
const LINKS_MAX: usize = 40;
/// The most bytes of one extended attribute.
const XATTR_MAX: usize = 64 * 1024;

impl Placer {
    /// Whether the tree has a directory at this path.
    pub fn is_directory(&self, path: &Path) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        path_in_root::open(self.root.as_fd(), path, flags, Mode::empty()).is_ok()
    }

    /// Copies everything to the destination, but for files that can be adopted later.
    pub fn copy(
        &self,
        collected: &Collected,
        destination: &Path,
        directory: bool,
        adopted: Option<&mut Adopted<'_>>,
    ) -> io::Result<()> {
        if directory {
            self.directory(destination)?;
        }
        let mut placed = Placed {
            adopted,
            ..Placed::default()
        };
        for item in &collected.items {
            let place = match (directory, item.target.as_os_str().is_empty()) {
                (true, true) => destination.join(&item.name),
                (true, false) => destination.join(&item.target),
                (false, _) => self.behind_links(destination)?,
            };
            self.item(item, &place, &mut placed).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", place.display()))
            })?;
        }
        for (place, times) in placed.directories {
            rustix::fs::futimens(self.directory(&place)?, &times)?;
        }
        Ok(())
    }

    /// Writes one file.
    pub fn file(&self, bytes: &[u8], place: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent_of(place)?;
        let mut file = self.create(parent.as_fd(), &name)?;
        io::Write::write_all(&mut file, bytes)?;
        self.finish(&file, mode, None)
    }

    /// Copies an open file with a time of its own.
    pub fn opened(&self, source: &mut File, place: &Path, mode: u32, time: i64) -> io::Result<()> {
        let (parent, name) = self.parent_of(place)?;
        let mut file = self.create(parent.as_fd(), &name)?;
        io::copy(source, &mut file)?;
        self.finish(&file, mode, None)?;
        let time = Timespec {
            tv_sec: time,
            tv_nsec: 0,
        };
        Ok(rustix::fs::futimens(&file, &both(time))?)
    }

    fn finish(&self, file: &File, mode: u32, item: Option<&Item>) -> io::Result<()> {
        self.own(file.as_fd(), item)?;
        let change = self.mode.as_ref();
        let mode = change.map_or(mode, |change| change.apply(mode, false));
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    fn own(&self, file: BorrowedFd<'_>, item: Option<&Item>) -> io::Result<()> {
        let (user, group) = self.owner_of(item);
        Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
    }

    fn owner_of(&self, item: Option<&Item>) -> (Uid, Gid) {
        let source = item.map_or((0, 0), |item| (item.stat.st_uid, item.stat.st_gid));
        let (user, group) = self.owner.unwrap_or(source);
        (Uid::from_raw(user), Gid::from_raw(group))
    }

    /// Opens a directory for changes; missing ones are made and get the owner.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.directory_through(path, 0)
    }

    /// `links` counts the links to nowhere on the way, whose targets are made as well.
    fn directory_through(&self, path: &Path, links: usize) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match path_in_root::open(self.root.as_fd(), path, flags, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let above = self.directory_through(parent, links)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if links < LINKS_MAX => {
                let link = rustix::fs::readlinkat(&above, name, Vec::new())?;
                let target = parent.join(OsStr::from_bytes(link.to_bytes()));
                let target = clean(&format!("/{}", target.to_string_lossy()));
                return self.directory_through(Path::new(&target), links + 1);
            }
            Err(errno) => return Err(errno.into()),
        }
        let made = rustix::fs::openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        self.own(made.as_fd(), None)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
        Ok(made)
    }

    fn parent_of(&self, place: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let name = place.file_name().ok_or(Errno::ISDIR)?;
        let parent = self.directory(place.parent().unwrap_or(Path::new("/")))?;
        Ok((parent, name.into()))
    }

    /// Where a file is written that is named by a symbolic link: the link stays.
    fn behind_links(&self, destination: &Path) -> io::Result<PathBuf> {
        let mut place = destination.to_owned();
        for _ in 0..LINKS_MAX {
            let (parent, name) = self.parent_of(&place)?;
            let Ok(link) = rustix::fs::readlinkat(&parent, &name, Vec::new()) else {
                return Ok(place);
            };
            let above = place.parent().unwrap_or(Path::new("/"));
            let target = above.join(OsStr::from_bytes(link.to_bytes()));
            place = PathBuf::from(clean(&format!("/{}", target.to_string_lossy())));
        }
        Err(Errno::LOOP.into())
    }

    /// Makes what is one file in the source one file here too; answers whether it was placed before.
    fn linked(&self, item: &Item, place: &Path, placed: &mut Placed<'_, '_>) -> io::Result<bool> {
        if item.stat.st_nlink < 2 {
            return Ok(false);
        }
        let file = (item.source(), item.stat.st_dev, item.stat.st_ino);
        let Some(first) = placed.links.get(&file) else {
            placed.links.insert(file, place.to_owned());
            return Ok(false);
        };
        let (from, old) = self.parent_of(first)?;
        let (parent, name) = self.parent_of(place)?;
        remove(parent.as_fd(), &name)?;
        rustix::fs::linkat(from, old, parent, name, AtFlags::empty())?;
        Ok(true)
    }

    /// The directory that a file goes to, which is opened once for all of them, and the file's name.
    fn take_parent(
        &self,
        place: &Path,
        placed: &mut Placed<'_, '_>,
    ) -> io::Result<(Parent, PathBuf)> {
        let name = place.file_name().ok_or(Errno::ISDIR)?;
        let path = place.parent().unwrap_or(Path::new("/"));
        let same = placed.parent.take().filter(|parent| parent.path == path);
        let parent = match same {
            Some(parent) => parent,
            None => self.parent(path, placed.adopted.is_some())?,
        };
        Ok((parent, name.into()))
    }

    fn parent(&self, path: &Path, adopting: bool) -> io::Result<Parent> {
        let directory = self.directory(path)?;
        let mut real = PathBuf::new();
        if adopting {
            let whole =
                |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            let (root, below) = (whole(&self.root)?, whole(&directory)?);
            let below = below.strip_prefix(root).map_err(|_| Errno::XDEV)?;
            below.clone_into(&mut real);
            // Changes nothing, but gives the directory a place in the tree's own layer.
            rustix::fs::fchown(&directory, None, None)?;
        }
        Ok(Parent {
            path: path.to_owned(),
            directory,
            real,
        })
    }

    /// Whether an item is exactly what a file of its own would become.
    fn is_as_wanted(&self, item: &Item) -> bool {
        let mode = item.stat.st_mode & 0o7777;
        let wanted = self.mode.as_ref();
        let wanted = wanted.map_or(mode, |change| change.apply(mode, false));
        let own = (
            Uid::from_raw(item.stat.st_uid),
            Gid::from_raw(item.stat.st_gid),
        );
        mode == wanted && own == self.owner_of(Some(item))
    }

    fn item(&self, item: &Item, place: &Path, placed: &mut Placed<'_, '_>) -> io::Result<()> {
        if item.kind() == FileType::Directory {
            let mode = item.stat.st_mode & 0o7777;
            let directory = self.directory(place)?;
            self.own(directory.as_fd(), Some(item))?;
            let mode = self
                .mode
                .as_ref()
                .map_or(mode, |change| change.apply(mode, true));
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            placed.directories.push((place.to_owned(), times(item)));
            return Ok(());
        }
        if item.kind() == FileType::RegularFile && self.linked(item, place, placed)? {
            return Ok(());
        }
        let (parent, name) = self.take_parent(place, placed)?;
        let adopted = placed.adopted.as_deref_mut();
        let waits = adopted.map_or(Ok(false), |adopted| {
            self.adopts(item, &parent, &name, adopted)
        })?;
        if !waits {
            self.placed(item, parent.directory.as_fd(), &name)?;
        }
        placed.parent = Some(parent);
        Ok(())
    }

    /// Leaves a file to be adopted, where that is possible.
    fn adopts(
        &self,
        item: &Item,
        parent: &Parent,
        name: &Path,
        adopted: &mut Adopted,
    ) -> io::Result<bool> {
        let place = parent.real.join(name);
        adopted.forget(&place);
        let wanted = item.kind() == FileType::RegularFile && self.is_as_wanted(item);
        Ok(wanted && is_free(parent.directory.as_fd(), name)? && adopted.add(&place, item))
    }

    fn placed(&self, item: &Item, parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
        match item.kind() {
            FileType::RegularFile => self.copied(item, parent, name),
            FileType::Symlink => {
                remove(parent, name)?;
                rustix::fs::symlinkat(item.link()?.as_c_str(), parent, name)?;
                self.by_name(parent, name, item)
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                remove(parent, name)?;
                let bits = Mode::from_raw_mode(item.stat.st_mode & 0o7777);
                rustix::fs::mknodat(parent, name, kind, bits, item.stat.st_rdev)?;
                self.by_name(parent, name, item)?;
                Ok(rustix::fs::chmodat(parent, name, bits, AtFlags::empty())?)
            }
            // A socket is no file anybody could copy.
            _ => Ok(()),
        }
    }

    /// Copies a file.
    pub fn copied(&self, item: &Item, parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
        let source = File::from(item.open()?);
        let file = self.create(parent, name)?;
        contents(&source, &file)?;
        self.finish(&file, item.stat.st_mode & 0o7777, Some(item))?;
        attributes(&source, &file)?;
        Ok(rustix::fs::futimens(&file, &times(item))?)
    }

    fn by_name(&self, parent: BorrowedFd<'_>, name: &Path, item: &Item) -> io::Result<()> {
        let (user, group) = self.owner_of(Some(item));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(user), Some(group), flags)?;
        Ok(rustix::fs::utimensat(parent, name, &times(item), flags)?)
    }

    fn create(&self, parent: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
        remove(parent, name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(parent, name, flags, Mode::from_raw_mode(0o600))?.into())
    }
}

fn is_free(parent: BorrowedFd<'_>, name: &Path) -> io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes a file away; a directory stays and is an error.
fn remove(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn contents(mut source: &File, mut target: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    io::copy(&mut source, &mut target).map(drop)
}

/// Extended attributes that belong to the contents: capabilities and those of users.
fn attributes(source: &File, target: &File) -> io::Result<()> {
    let mut names = vec![0_u8; XATTR_MAX];
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let bytes = name.to_bytes();
        if bytes != b"security.capability" && !bytes.starts_with(b"user.") {
            continue;
        }
        let mut value = vec![0_u8; XATTR_MAX];
        let length = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

fn times(item: &Item) -> Timestamps {
    both(Timespec {
        tv_sec: item.stat.st_mtime,
        tv_nsec: item.stat.st_mtime_nsec as _,
    })
}

fn both(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
