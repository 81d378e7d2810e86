//! Copying a tree into an empty volume: contents, owner, mode, times, extended attributes, hard links, devices. Both sides
//! are walked by descriptor, links are copied and never followed.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// Deepest directory copied; two descriptors are held for each level.
const DEPTH_MAX: usize = 450;

/// Copies what is in `from`, and the metadata of `from` itself, to the directory `to`.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    let stat = rustix::fs::fstat(&from)?;
    let mut copy = Copy {
        device: stat.st_dev,
        links: HashMap::new(),
        top: rustix::io::fcntl_dupfd_cloexec(&to, 0)?,
    };
    copy.directory(&from, &to, &stat, &mut Vec::new(), 0)
}

/// Whether a directory has nothing in it.
pub fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        // mkfs puts it there; it says nothing about use.
        if ![c".", c"..", c"lost+found"].contains(&entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Copy {
    /// Other file systems mounted in the tree are left out.
    device: u64,
    /// Files with several names, and the path their first name was copied to.
    links: HashMap<u64, Vec<u8>>,
    top: OwnedFd,
}

impl Copy {
    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        stat: &Stat,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for entry in Dir::read_from(from)? {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() == c"." || name.as_c_str() == c".." {
                continue;
            }
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            self.entry(from, to, &name, path, depth)?;
            path.truncate(length);
        }
        copy_metadata(from.as_fd(), to.as_fd(), stat)
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CString,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let target = open_directory(to.as_fd(), name)?;
            let source = open_directory(from.as_fd(), name)?;
            if rustix::fs::fstat(&source)?.st_dev != self.device {
                return copy_metadata(source.as_fd(), target.as_fd(), &stat);
            }
            return self.directory(&source, &target, &stat, path, depth + 1);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                let flags = AtFlags::empty();
                return Ok(rustix::fs::linkat(&self.top, &**first, to, name, flags)?);
            }
            self.links.insert(stat.st_ino, path.clone());
        }
        match kind {
            FileType::RegularFile => return copy_file(from.as_fd(), to.as_fd(), name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
            }
            // Sockets have no meaning without their process.
            _ => return Ok(()),
        }
        copy_metadata_by_name(from, to, name, &stat)
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    copy_contents(source.as_fd(), target.as_fd())?;
    copy_metadata(source.as_fd(), target.as_fd(), &stat)
}

/// Shares the blocks where the file system can, else lets the kernel copy, else reads and writes.
fn copy_contents(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    const MOST: usize = 1 << 30;
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, MOST) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    // Positions have moved together, so that this goes on where the kernel stopped.
    let mut source = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(source, 0)?);
    let mut target = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(target, 0)?);
    io::copy(&mut source, &mut target).map(drop)
}

fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (user, group) = owner(stat);
    rustix::fs::fchown(to, user, group)?;
    let list = |buffer: &mut [u8]| rustix::fs::flistxattr(from, buffer);
    for key in names(list)? {
        let value = growing(|buffer| rustix::fs::fgetxattr(from, &*key, buffer))?;
        if let Some(value) = value {
            allow_unsupported(rustix::fs::fsetxattr(
                to,
                &*key,
                &value,
                XattrFlags::empty(),
            ))?;
        }
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn copy_metadata_by_name(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (user, group) = owner(stat);
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(to, name, user, group, nofollow)?;
    let path = |directory: &OwnedFd| {
        let start = format!("/proc/self/fd/{}/", directory.as_raw_fd());
        [start.as_bytes(), name.to_bytes()].concat()
    };
    let (source, target) = (path(from), path(to));
    for key in names(|buffer: &mut [u8]| rustix::fs::llistxattr(&*source, buffer))? {
        let value = growing(|buffer| rustix::fs::lgetxattr(&*source, &*key, buffer))?;
        if let Some(value) = value {
            let flags = XattrFlags::empty();
            allow_unsupported(rustix::fs::lsetxattr(&*target, &*key, &value, flags))?;
        }
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(to, name, &times(stat), nofollow)?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Names of attributes, without those that belong to overlay mounts.
fn names(list: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<Vec<u8>>> {
    let list = growing(list)?.unwrap_or_default();
    let names = list.split(|b| *b == 0).filter(|key| !key.is_empty());
    let own = names.filter(|key| !key.starts_with(b"trusted.overlay."));
    Ok(own.map(<[u8]>::to_vec).collect())
}

fn growing(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn allow_unsupported(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
