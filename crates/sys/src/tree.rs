//! Whole directory trees by descriptor: removing and measuring them. Nothing here follows a symbolic link or crosses a
//! mount, however the tree changes meanwhile.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;

/// Directories deeper than this are lifted to the top before they are emptied, so that neither the stack nor the
/// descriptor table grows with the depth of a hostile tree.
const DEPTH_MAX: usize = 48;

/// Asks the file system to put each directory that is made in this one far from the others (chattr(1) `T`). On ext4 a tree
/// that is written while others are deleted is then spared the search among numbers of files that are just gone. A file system
/// that knows no such thing is no error.
pub fn spread(directory: impl AsFd) {
    let directory = directory.as_fd();
    if let Ok(flags) = rustix::fs::ioctl_getflags(directory) {
        let _ = rustix::fs::ioctl_setflags(directory, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// Removes `name` below `parent`, whatever it is; a missing one is no error. A mount point inside answers `EXDEV`.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut lifted = vec![name.to_owned()];
    let mut counter = 0;
    while let Some(name) = lifted.pop() {
        let mut lift = |directory: BorrowedFd<'_>, child: &CStr| -> io::Result<()> {
            let target = loop {
                counter += 1;
                let target = CString::new(format!(".removing-{}-{counter}", std::process::id()))?;
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(directory, child, parent, &target, flags) {
                    Ok(()) => break target,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            };
            lifted.push(target);
            Ok(())
        };
        remove_directory(parent, &name, 0, &mut lift)?;
    }
    Ok(())
}

fn remove_directory(
    parent: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    lift: &mut impl FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    let directory = match open_directory(parent, name) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    loop {
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let child = entry.file_name();
            if child == c"." || child == c".." {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match rustix::fs::unlinkat(&directory, child, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            if depth < DEPTH_MAX {
                remove_directory(directory.as_fd(), child, depth + 1, lift)?;
            } else {
                lift(directory.as_fd(), child)?;
            }
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Opens a directory for reading; refuses symbolic links and mount points.
pub fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(
        parent,
        name,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// Sets the time of change of everything below a directory that is later than `latest`, in seconds since 1970, to that.
pub fn clamp_times(directory: BorrowedFd<'_>, latest: i64) -> io::Result<()> {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec {
            tv_sec: latest,
            tv_nsec: 0,
        },
    };
    let top = Rc::new(open_directory(directory, c".")?);
    let mut waiting = vec![(top, c".".to_owned())];
    while let Some((parent, name)) = waiting.pop() {
        let directory = Rc::new(open_directory(parent.as_fd(), &name)?);
        for entry in Dir::read_from(&*directory)? {
            let entry = entry?;
            let child = entry.file_name();
            if child == c".." {
                continue;
            }
            let stat = rustix::fs::statat(&directory, child, AtFlags::SYMLINK_NOFOLLOW)?;
            if (stat.st_mtime, stat.st_mtime_nsec) > (latest, 0) {
                rustix::fs::utimensat(&directory, child, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if child != c"." && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.push((Rc::clone(&directory), child.to_owned()));
            }
        }
    }
    Ok(())
}

/// Bytes of all files below a directory by their apparent size, hard-linked files once.
pub fn usage(directory: BorrowedFd<'_>) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    // Names wait, not descriptors: what is open at a time are the parents on one way down.
    let top = Rc::new(open_directory(directory, c".")?);
    let mut waiting = vec![(top, c".".to_owned())];
    while let Some((parent, name)) = waiting.pop() {
        let directory = match open_directory(parent.as_fd(), &name) {
            Ok(directory) => Rc::new(directory),
            Err(error) if is_gone_or_mount(&error) => continue,
            Err(error) => return Err(error),
        };
        drop(parent);
        for entry in Dir::read_from(&*directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.push((directory.clone(), name.to_owned()));
            } else if stat.st_nlink <= 1 || seen.insert((stat.st_dev, stat.st_ino)) {
                total += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
    }
    Ok(total)
}

fn is_gone_or_mount(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP)
    )
}
