//! Making a layer of a directory that overlayfs wrote to: its tar stream is hashed and recorded while the files are cloned,
//! copied or taken over, so that each byte is read once and no tar stream is ever stored.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::unpack::{NewLayer, UnpackedLayer};
use super::{LayerDirectory, changes, open_directory};
use crate::error::ImageError;
use crate::side_hash::SideHash;
use crate::tarball::export::{HeaderBlock, pad, sorted_names};
use crate::tarball::extract::OPAQUE_XATTR;
use crate::tarball::metadata::{apply, apply_by_name, read_entry, times};
use crate::tarball::{Entry, Kind, split::Recorder};

const BUFFER: usize = 256 * 1024;
/// Deepest directory read; descriptors are held for each level.
const DEPTH_MAX: usize = 900;
/// Mode of whiteout files in a layer's stream.
const WHITEOUT_MODE: u32 = 0o600;

/// The directory a layer is made of.
#[derive(Clone, Copy, Debug)]
pub enum Upper<'a> {
    /// Stays as it is.
    Copy(&'a Path),
    /// Becomes the layer itself when it is on the same file system; it is gone afterwards, also after a failure.
    Take(&'a Path),
}

/// Makes a layer that has no name yet. `in_image` tells whether the image has a path, of those that every container gets:
/// when one of them was deleted and the image does not have it, the layer has nothing to hide.
pub fn from_upper(
    layers: &Arc<LayerDirectory>,
    upper: Upper<'_>,
    in_image: &dyn Fn(&[u8]) -> bool,
) -> Result<UnpackedLayer, ImageError> {
    let (Upper::Copy(path) | Upper::Take(path)) = upper;
    let fail = |error| ImageError::io("commit", path, error);
    let new = NewLayer::new(layers)?;
    let taken = match upper {
        Upper::Copy(_) => false,
        Upper::Take(path) => new.adopt(path)?,
    };
    let (root, source) = if taken {
        (None, new.open_files()?)
    } else {
        (Some(new.make_files()?), open_directory(path)?)
    };
    let recorder = new.recorder()?;
    let mut maker = Maker {
        stream: Stream {
            hash: SideHash::new(),
            recorder,
            size: 0,
        },
        root: root.as_ref(),
        links: HashMap::new(),
        buffer: vec![0; BUFFER],
        bytes: 0,
        in_image,
    };
    let target = root.as_ref().map(AsFd::as_fd);
    maker
        .directory(source.as_fd(), target, &mut Vec::new(), 0)
        .and_then(|()| maker.stream.write_all(&[0; 1024]))
        .map_err(fail)?;
    let bytes = maker.bytes;
    let stream = maker.stream;
    stream.recorder.finish().map_err(fail)?;
    Ok(new.finish(stream.hash.finish(), stream.size, bytes))
}

/// The tar stream: hashed, and all but the files' contents recorded.
struct Stream {
    hash: SideHash,
    recorder: Recorder,
    size: u64,
}

impl Stream {
    fn contents(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.contents(bytes);
        self.recorder.raw(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Maker<'a> {
    stream: Stream,
    /// Where files are copied to; none when they are there already.
    root: Option<&'a OwnedFd>,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    bytes: u64,
    in_image: &'a dyn Fn(&[u8]) -> bool,
}

impl Maker<'_> {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: Option<BorrowedFd<'_>>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in sorted_names(from)? {
            let length = path.len();
            path.extend_from_slice(name.to_bytes());
            self.entry(Place { from, to, name }, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, place: Place<'_>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let stat = match rustix::fs::statat(place.from, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        cais_sys::failpoint::reach("upper-entry");
        if changes::is_whiteout(&stat) {
            return self.whiteout(&place, path, &stat);
        }
        let Some(entry) = read_entry(place.from, &place.name, path, &stat)? else {
            return place.drop_source(self.root.is_none());
        };
        match entry.kind {
            Kind::Directory => {
                HeaderBlock::of(&entry, b'5').write(&mut self.stream, &entry.xattrs)?;
                path.push(b'/');
                self.below(&place, &entry, path, depth)
            }
            Kind::File => self.file(&place, &entry, &stat),
            Kind::Symlink => self.node(&place, &entry, b'2', &stat),
            Kind::CharDevice => self.node(&place, &entry, b'3', &stat),
            Kind::BlockDevice => self.node(&place, &entry, b'4', &stat),
            _ => self.node(&place, &entry, b'6', &stat),
        }
    }

    fn below(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let from = cais_sys::tree::open_directory(place.from, &place.name)?;
        let opaque = changes::is_opaque(from.as_fd())?;
        if opaque {
            let mark = [&**path, b".wh..wh..opq"].concat();
            self.mark(&mark, entry.mtime)?;
        }
        let Some(to) = place.to else {
            return self.directory(from.as_fd(), None, path, depth + 1);
        };
        rustix::fs::mkdirat(to, &place.name, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(to, &place.name, flags, Mode::empty())?;
        if opaque {
            rustix::fs::fsetxattr(&to, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        self.directory(from.as_fd(), Some(to.as_fd()), path, depth + 1)?;
        apply(&to, entry).map_err(io::Error::other)?;
        Ok(rustix::fs::futimens(&to, &times(entry.mtime))?)
    }

    fn whiteout(&mut self, place: &Place<'_>, path: &[u8], stat: &Stat) -> io::Result<()> {
        if super::init::is_item(path) && !(self.in_image)(path) {
            return place.drop_source(self.root.is_none());
        }
        let parent = path.len() - place.name.to_bytes().len();
        let mark = [&path[..parent], b".wh.", place.name.to_bytes()].concat();
        let mtime = rustix::fs::Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        };
        self.mark(&mark, mtime)?;
        let Some(to) = place.to else { return Ok(()) };
        let kind = FileType::CharacterDevice;
        Ok(rustix::fs::mknodat(
            to,
            &place.name,
            kind,
            Mode::empty(),
            0,
        )?)
    }

    /// An empty file that says something of the layers below.
    fn mark(&mut self, path: &[u8], mtime: rustix::fs::Timespec) -> io::Result<()> {
        let entry = Entry {
            path: path.to_vec(),
            link: Vec::new(),
            kind: Kind::File,
            mode: WHITEOUT_MODE,
            uid: 0,
            gid: 0,
            size: 0,
            mtime,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        HeaderBlock::of(&entry, b'0').write(&mut self.stream, &[])
    }

    /// Whether this inode was met before under another name; then it is linked.
    fn linked(&mut self, place: &Place<'_>, entry: &Entry, stat: &Stat) -> io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&inode) else {
            self.links.insert(inode, entry.path.clone());
            return Ok(false);
        };
        HeaderBlock::link(entry, first).write(&mut self.stream, &[])?;
        if let (Some(to), Some(root)) = (place.to, self.root) {
            rustix::fs::linkat(root, &**first, to, &place.name, AtFlags::empty())?;
        }
        Ok(true)
    }

    fn node(&mut self, place: &Place<'_>, entry: &Entry, flag: u8, stat: &Stat) -> io::Result<()> {
        if self.linked(place, entry, stat)? {
            return Ok(());
        }
        HeaderBlock::of(entry, flag).write(&mut self.stream, &entry.xattrs)?;
        let Some(to) = place.to else { return Ok(()) };
        if entry.kind == Kind::Symlink {
            rustix::fs::symlinkat(&*entry.link, to, &place.name)?;
        } else {
            let kind = FileType::from_raw_mode(stat.st_mode);
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(to, &place.name, kind, mode, stat.st_rdev)?;
        }
        apply_by_name(to, place.name.to_bytes(), entry).map_err(io::Error::other)
    }

    fn file(&mut self, place: &Place<'_>, entry: &Entry, stat: &Stat) -> io::Result<()> {
        if self.linked(place, entry, stat)? {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let source = rustix::fs::openat2(place.from, &place.name, flags, Mode::empty(), resolve)?;
        let mut source = File::from(source);
        let copy = place.to.map(|to| create(to, &place.name)).transpose()?;
        let cloned = copy
            .as_ref()
            .is_some_and(|copy| rustix::fs::ioctl_ficlone(copy, &source).is_ok());
        HeaderBlock::of(entry, b'0').write(&mut self.stream, &entry.xattrs)?;
        self.stream.recorder.payload(entry.size, &entry.path)?;
        match copy {
            None => self.contents(&mut source, None, entry.size)?,
            Some(mut copy) => {
                if cloned {
                    // Of a file that is written to meanwhile, the clone is what the layer keeps.
                    copy.set_len(entry.size)?;
                    self.contents(&mut copy, None, entry.size)?;
                } else {
                    let sparse = (stat.st_blocks as u64) * 512 < entry.size;
                    self.contents(&mut source, Some((&copy, sparse)), entry.size)?;
                }
                let copy = OwnedFd::from(copy);
                apply(&copy, entry).map_err(io::Error::other)?;
                rustix::fs::futimens(&copy, &times(entry.mtime))?;
            }
        }
        self.bytes += entry.size;
        pad(&mut self.stream, entry.size)
    }

    /// Hashes `size` bytes and writes them to `copy`, where there is one; holes stay holes.
    fn contents(
        &mut self,
        source: &mut File,
        copy: Option<(&File, bool)>,
        size: u64,
    ) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let have = match source.read(&mut self.buffer[..want])? {
                // A file that shrinks while it is read is filled up, so that the stream stays whole.
                0 => {
                    self.buffer[..want].fill(0);
                    want
                }
                have => have,
            };
            let bytes = &self.buffer[..have];
            self.stream.contents(bytes);
            if let Some((mut copy, sparse)) = copy {
                if sparse && bytes.iter().all(|b| *b == 0) {
                    copy.seek(SeekFrom::Current(have as i64))?;
                } else {
                    copy.write_all(bytes)?;
                }
            }
            left -= have as u64;
        }
        match copy {
            Some((copy, true)) => copy.set_len(size),
            _ => Ok(()),
        }
    }
}

fn create(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    Ok(file.into())
}

/// A name, where it is and where its copy goes.
struct Place<'a> {
    from: BorrowedFd<'a>,
    to: Option<BorrowedFd<'a>>,
    name: CString,
}

impl Place<'_> {
    /// What has no place in a layer must not stay in a directory that becomes one.
    fn drop_source(&self, taken: bool) -> io::Result<()> {
        if taken {
            rustix::fs::unlinkat(self.from, &self.name, AtFlags::empty())?;
        }
        Ok(())
    }
}
