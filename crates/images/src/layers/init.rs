//! The layer between an image and every container on it: the files and mount points each container gets. It is made
//! through a mount of the image, so that directories keep the image's owner, mode and times, and it never shows in a
//! container's diff.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;

use crate::error::ImageError;

enum Item {
    Directory,
    File,
    Link(&'static str),
}

/// In Docker's order.
const ITEMS: [(&str, Item); 10] = [
    ("/dev/pts", Item::Directory),
    ("/dev/shm", Item::Directory),
    ("/proc", Item::Directory),
    ("/sys", Item::Directory),
    ("/.dockerenv", Item::File),
    ("/etc/resolv.conf", Item::File),
    ("/etc/hosts", Item::File),
    ("/etc/hostname", Item::File),
    ("/dev/console", Item::File),
    ("/etc/mtab", Item::Link("/proc/mounts")),
];

/// Whether a path, without a slash before it, is one of the items.
pub fn is_item(path: &[u8]) -> bool {
    let mut items = ITEMS.iter();
    items.any(|(item, _)| &item.as_bytes()[1..] == path)
}

/// Makes the items below a writable mount of the image.
pub fn populate(root: BorrowedFd<'_>) -> Result<(), ImageError> {
    for (path, item) in &ITEMS {
        one(root, path, item).map_err(|errno| ImageError::io("create", path, errno))?;
    }
    Ok(())
}

fn one(root: BorrowedFd<'_>, path: &str, item: &Item) -> Result<(), Errno> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = open_parent(root, parent)?;
    let before = rustix::fs::fstat(&parent)?;
    let existing = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let existing = existing.map(|stat| FileType::from_raw_mode(stat.st_mode));
    match (existing, item) {
        // A directory stays, also where a file was wanted: the image has its reasons.
        (Ok(FileType::Directory), _) => return Ok(()),
        (Ok(_), _) => rustix::fs::unlinkat(&parent, name, AtFlags::empty())?,
        (Err(Errno::NOENT), _) => {}
        (Err(errno), _) => return Err(errno),
    }
    let mode = Mode::from_raw_mode(0o755);
    match item {
        Item::Directory => {
            rustix::fs::mkdirat(&parent, name, mode)?;
            rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
        }
        Item::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, mode)?;
            rustix::fs::fchmod(file, mode)?;
        }
        Item::Link(target) => rustix::fs::symlinkat(*target, &parent, name)?,
    }
    let times = Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: before.st_atime,
            tv_nsec: before.st_atime_nsec as _,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec as _,
        },
    };
    rustix::fs::futimens(&parent, &times)
}

/// Opens a directory inside the image, made when it is missing; links are followed inside the image only.
fn open_parent(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    let open = |path: &str| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    match open(path) {
        Err(Errno::NOENT) => {
            let name = path.trim_start_matches('/');
            match rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    let mode = Mode::from_raw_mode(0o755);
                    rustix::fs::chmodat(root, name, mode, AtFlags::empty())?;
                }
                // A link to nowhere: the image decides where its directory would be, so that is made.
                Err(Errno::EXIST) => make_target(root, name)?,
                Err(errno) => return Err(errno),
            }
            open(path)
        }
        result => result,
    }
}

fn make_target(root: BorrowedFd<'_>, link: &str) -> Result<(), Errno> {
    let target = rustix::fs::readlinkat(root, link, Vec::new())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::openat2(root, c".", flags, Mode::empty(), resolve)?;
    for part in target.to_bytes().split(|b| *b == b'/') {
        if matches!(part, b"" | b"." | b"..") {
            continue;
        }
        match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = flags | OFlags::NOFOLLOW;
        directory = rustix::fs::openat(directory.as_fd(), part, flags, Mode::empty())?;
    }
    Ok(())
}
