//! Reading a container's root file system from the host without running the container: single files straight from the
//! overlay's directories, the whole tree through a detached overlay mount that vanishes with its descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::ports::OverlayDirs;

/// Longest account file that is read, bytes.
const FILE_LIMIT: u64 = 8 << 20;

/// What one layer says about a path.
enum InLayer {
    File(OwnedFd),
    /// Nothing; ask the layer below.
    Absent,
    /// Deleted here, or hidden by an opaque directory.
    Hidden,
    /// A symbolic link is on the way: only a mount can tell.
    Link,
}

/// Reads `directory/name` (like `etc`, `passwd`) as the container would see it; `None` when it is not there or no
/// regular file. Text that is not UTF-8 is read with replacement characters.
///
/// # Errors
/// Fails when a layer cannot be read.
pub fn read_file(dirs: &OverlayDirs, directory: &str, name: &str) -> io::Result<Option<String>> {
    for layer in std::iter::once(&dirs.upper).chain(&dirs.lower) {
        match in_layer(layer, directory, name)? {
            InLayer::File(file) => return read_text(file).map(Some),
            InLayer::Absent => {}
            InLayer::Hidden => return Ok(None),
            InLayer::Link => return read_mounted(dirs, &format!("{directory}/{name}")),
        }
    }
    Ok(None)
}

fn in_layer(layer: &Path, directory: &str, name: &str) -> io::Result<InLayer> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = match rfs::openat(CWD, layer, flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(InLayer::Absent),
        Err(error) => return Err(error.into()),
    };
    let parent = match rfs::openat(&root, directory, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(InLayer::Absent),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(rfs::fstat(&parent)?.st_mode);
    match kind {
        FileType::Directory => {}
        FileType::Symlink => return Ok(InLayer::Link),
        _ => return Ok(InLayer::Hidden),
    }
    let open = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rfs::openat(&parent, name, open, Mode::empty()) {
        Ok(file) => {
            let kind = FileType::from_raw_mode(rfs::fstat(&file)?.st_mode);
            let regular = kind == FileType::RegularFile;
            Ok(if regular {
                InLayer::File(file)
            } else {
                InLayer::Hidden
            })
        }
        Err(Errno::LOOP) => Ok(InLayer::Link),
        // A whiteout is a character device 0:0, which cannot be opened.
        Err(Errno::NXIO | Errno::NODEV) => Ok(InLayer::Hidden),
        Err(Errno::NOENT) if is_opaque(layer, directory) => Ok(InLayer::Hidden),
        Err(Errno::NOENT) => Ok(InLayer::Absent),
        Err(error) => Err(error.into()),
    }
}

fn is_opaque(layer: &Path, directory: &str) -> bool {
    let mut value = [0; 1];
    let path = layer.join(directory);
    matches!(rfs::lgetxattr(&path, "trusted.overlay.opaque", &mut value), Ok(1) if value == *b"y")
}

fn read_text(file: OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::from(file).take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn read_mounted(dirs: &OverlayDirs, path: &str) -> io::Result<Option<String>> {
    let root = mount(dirs)?;
    match open_in_root(root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => {
            let kind = FileType::from_raw_mode(rfs::fstat(&file)?.st_mode);
            if kind == FileType::RegularFile {
                read_text(file).map(Some)
            } else {
                Ok(None)
            }
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a path below `root` as a process inside would, symbolic links included.
///
/// # Errors
/// The errno of openat2(2).
pub fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    rfs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Makes a read-only, detached mount of a container that is not running and answers its root directory.
///
/// # Errors
/// The errno of the mount calls.
pub fn mount(dirs: &OverlayDirs) -> io::Result<OwnedFd> {
    let layers = std::iter::once(&dirs.upper).chain(&dirs.lower);
    let there =
        |layer: &&PathBuf| rfs::statat(CWD, layer.as_path(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let layers: Vec<PathBuf> = layers.filter(there).cloned().collect();
    cais_sys::overlay::mount(&layers, None)
}
