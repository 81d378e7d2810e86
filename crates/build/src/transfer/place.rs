//! Putting files into a tree: parents are made, what is in the way of a file gives way, owner comes before mode.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_sys::path_in_root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, openat,
};
use rustix::io::Errno;

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

/// Device and number of files with several names, and where they were placed first.
type Links = BTreeMap<(u64, u64), PathBuf>;

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

    /// Copies everything to the destination.
    pub fn copy(
        &self,
        collected: &Collected,
        destination: &Path,
        directory: bool,
    ) -> io::Result<()> {
        if directory {
            self.directory(destination)?;
        }
        let mut links = Links::new();
        for item in &collected.items {
            let place = match (directory, item.target.as_os_str().is_empty()) {
                (true, true) => destination.join(&item.name),
                (true, false) => destination.join(&item.target),
                (false, _) => self.behind_links(destination)?,
            };
            self.item(item, &place, &mut links).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", place.display()))
            })?;
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
    fn linked(&self, item: &Item, place: &Path, links: &mut Links) -> io::Result<bool> {
        if item.stat.st_nlink < 2 {
            return Ok(false);
        }
        let file = (item.stat.st_dev, item.stat.st_ino);
        let Some(first) = links.get(&file) else {
            links.insert(file, place.to_owned());
            return Ok(false);
        };
        let (from, old) = self.parent_of(first)?;
        let (parent, name) = self.parent_of(place)?;
        remove(parent.as_fd(), &name)?;
        rustix::fs::linkat(from, old, parent, name, AtFlags::empty())?;
        Ok(true)
    }

    fn item(&self, item: &Item, place: &Path, links: &mut Links) -> io::Result<()> {
        let mode = item.stat.st_mode & 0o7777;
        if item.kind() == FileType::Directory {
            let directory = self.directory(place)?;
            self.own(directory.as_fd(), Some(item))?;
            let mode = self
                .mode
                .as_ref()
                .map_or(mode, |change| change.apply(mode, true));
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            return Ok(rustix::fs::futimens(&directory, &times(item))?);
        }
        if item.kind() == FileType::RegularFile && self.linked(item, place, links)? {
            return Ok(());
        }
        let (parent, name) = self.parent_of(place)?;
        match item.kind() {
            FileType::RegularFile => {
                let source = File::from(item.open()?);
                let file = self.create(parent.as_fd(), &name)?;
                contents(&source, &file)?;
                self.finish(&file, mode, Some(item))?;
                attributes(&source, &file)?;
                Ok(rustix::fs::futimens(&file, &times(item))?)
            }
            FileType::Symlink => {
                remove(parent.as_fd(), &name)?;
                rustix::fs::symlinkat(item.link()?.as_c_str(), &parent, &name)?;
                self.by_name(parent.as_fd(), &name, item)
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                remove(parent.as_fd(), &name)?;
                let bits = Mode::from_raw_mode(mode);
                rustix::fs::mknodat(&parent, &name, kind, bits, item.stat.st_rdev)?;
                self.by_name(parent.as_fd(), &name, item)?;
                Ok(rustix::fs::chmodat(&parent, &name, bits, AtFlags::empty())?)
            }
            // A socket is no file anybody could copy.
            _ => Ok(()),
        }
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
