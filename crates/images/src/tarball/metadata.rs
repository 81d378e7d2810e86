//! Owner, extended attributes, mode and times: read from a file into an entry, and set from an entry on a file.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, major, minor,
};
use rustix::io::Errno;

use super::header::Pairs;
use super::place::failed;
use super::{Entry, Kind};
use crate::error::TarError;

const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// The entry of a file that is there; none for a socket, which has no meaning in an archive. Directories get a slash at the
/// end of their path.
pub fn read_entry(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
    stat: &Stat,
) -> io::Result<Option<Entry>> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    let mut entry = Entry {
        path: path.to_vec(),
        link: Vec::new(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        mtime: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
        device: (0, 0),
        xattrs: read_xattrs(parent, name)?,
    };
    match kind {
        Kind::File => entry.size = stat.st_size as u64,
        Kind::Directory => entry.path.push(b'/'),
        Kind::Symlink => {
            entry.link = rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes();
        }
        Kind::CharDevice | Kind::BlockDevice => {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        _ => {}
    }
    Ok(Some(entry))
}

/// Owner, attributes and mode, in the order that keeps set-id bits and file capabilities.
pub fn apply(file: &OwnedFd, entry: &Entry) -> Result<(), TarError> {
    let fail = |operation| move |errno: Errno| failed(operation, &entry.path, errno);
    let (user, group) = owner(entry);
    rustix::fs::fchown(file, user, group).map_err(fail("chown"))?;
    for (key, value) in &entry.xattrs {
        set_xattr(key, |key| {
            rustix::fs::fsetxattr(file.as_fd(), key, value, XattrFlags::empty())
        })
        .map_err(fail("setxattr"))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(fail("chmod"))
}

/// Owner, attributes, mode and time of what has no descriptor of its own: links, devices, pipes. It was just made by the
/// caller, in a directory that nobody else writes to.
pub fn apply_by_name(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), TarError> {
    let fail = |operation| move |errno: Errno| failed(operation, &entry.path, errno);
    let (user, group) = owner(entry);
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, user, group, nofollow).map_err(fail("lchown"))?;
    for (key, value) in &entry.xattrs {
        let path = through(parent, name);
        set_xattr(key, |key| {
            rustix::fs::lsetxattr(&*path, key, value, XattrFlags::empty())
        })
        .map_err(fail("setxattr"))?;
    }
    if entry.kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(fail("chmod"))?;
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), nofollow).map_err(fail("utimensat"))
}

/// The same time for access and change.
pub fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

/// Sets one attribute; overlay's own are not for archives to set, and a file system without attributes is no error.
fn set_xattr(key: &[u8], set: impl FnOnce(&[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
    if key.starts_with(OVERLAY_XATTRS) || key.contains(&0) {
        return Ok(());
    }
    match set(key) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if key.starts_with(b"user.") => Ok(()),
        result => result,
    }
}

fn through(parent: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [
        format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
        name,
    ]
    .concat()
}

/// Extended attributes of a name that is not followed, sorted; overlay's own and those the kernel makes up left out.
fn read_xattrs(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Pairs> {
    let path = through(parent, name.to_bytes());
    let mut list = Vec::new();
    if read_growing(&mut list, |buffer| rustix::fs::llistxattr(&*path, buffer))?.is_none() {
        return Ok(Vec::new());
    }
    let mut xattrs = Vec::new();
    for key in list.split(|b| *b == 0).filter(|key| !key.is_empty()) {
        let hidden = [OVERLAY_XATTRS, b"system.", b"security.selinux"];
        if hidden.iter().any(|prefix| key.starts_with(prefix)) {
            continue;
        }
        let mut value = Vec::new();
        let get = |buffer: &mut [u8]| rustix::fs::lgetxattr(&*path, key, buffer);
        if read_growing(&mut value, get)?.is_some() {
            xattrs.push((key.to_vec(), value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

fn read_growing(
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Option<()>> {
    buffer.resize(256, 0);
    loop {
        match read(buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(Some(()));
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::OPNOTSUPP | Errno::NODATA | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}
