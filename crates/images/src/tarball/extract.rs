//! Unpacks a tar stream below a directory descriptor. Every entry is resolved below that root; what is already there
//! gives way, owner comes before mode, and the times of directories are set last.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, XattrFlags, makedev};
use rustix::io::Errno;

use super::metadata::{apply, apply_by_name, times};
use super::place::{Directories, clean, failed, split};
use super::{Entry, Kind, TarReader};
use crate::compression::decompress;
use crate::error::{ImageError, TarError};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks a directory that hides everything below it (overlayfs.rst, "whiteouts and opaque directories").
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What an archive is unpacked as.
pub enum Target {
    /// A layer: whiteouts become overlay's, what later entries replace is kept in this directory for
    /// [`super::split`], and the root directory keeps its own metadata.
    Layer { shadow: OwnedFd },
    /// Plain files, into a tree that has contents already; mounts inside are entered.
    Plain,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Bytes in regular files.
    pub bytes: u64,
    /// Entries read.
    pub entries: u64,
}

/// Most entries taken from one archive.
const ENTRIES_MAX: u64 = 20_000_000;

/// Unpacks an archive, compressed or not, into a tree that has contents already (`docker cp`). What is in the way of an
/// entry is removed; links of the tree are followed below `root` only.
pub fn extract_into(root: OwnedFd, archive: impl Read + Send) -> Result<Totals, ImageError> {
    let (_, plain) = decompress(archive).map_err(TarError::from)?;
    let mut reader = TarReader::new(BufReader::with_capacity(256 * 1024, plain));
    Ok(extract(&mut reader, root, Target::Plain)?)
}

/// Whether a stream begins as an archive, compressed or not.
pub fn is_archive(stream: impl Read + Send) -> bool {
    let Ok((_, plain)) = decompress(stream) else {
        return false;
    };
    let mut reader = TarReader::new(BufReader::new(plain));
    matches!(reader.next_entry(), Ok(Some(_)))
}

/// Unpacks all entries below `root`.
pub fn extract<R: BufRead>(
    reader: &mut TarReader<R>,
    root: OwnedFd,
    target: Target,
) -> Result<Totals, TarError> {
    let mut extractor = Extractor {
        directories: Directories::new(root, matches!(target, Target::Layer { .. })),
        target,
        times: Vec::new(),
        replaced: 0,
        totals: Totals::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        extractor.totals.entries += 1;
        cais_sys::failpoint::reach("unpack-entry");
        if extractor.totals.entries > ENTRIES_MAX {
            return Err(TarError::Limit(format!("more than {ENTRIES_MAX} entries")));
        }
        extractor.entry(reader, entry)?;
    }
    extractor.directory_times();
    Ok(extractor.totals)
}

struct Extractor {
    directories: Directories,
    target: Target,
    times: Vec<(Vec<u8>, Timespec)>,
    replaced: u64,
    totals: Totals,
}

/// What an entry found in its place.
#[derive(PartialEq, Eq)]
enum Before {
    Nothing,
    Directory,
    Whiteout,
}

impl Extractor {
    fn entry<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        mut entry: Entry,
    ) -> Result<(), TarError> {
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => self.root(&entry),
                _ => Err(TarError::Outside(entry.shown())),
            };
        }
        let layer = matches!(self.target, Target::Layer { .. });
        let (parent, name) = split(&path);
        if layer && name.starts_with(WHITEOUT) {
            return self.whiteout(&path, parent, name);
        }
        entry.path = path;
        match entry.kind {
            Kind::File => self.file(reader, &entry),
            Kind::Directory => self.directory(reader, &entry),
            Kind::HardLink => self.hard_link(reader, &entry),
            Kind::Symlink => self.symlink(reader, &entry),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(reader, &entry),
            Kind::Other(flag) => Err(TarError::Kind(flag.into(), entry.shown())),
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<(), TarError> {
        // A layer's own `./` says nothing about the root of a container, as in Docker.
        if matches!(self.target, Target::Layer { .. }) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = self.directories.open(b"", flags);
        let root = root.map_err(|errno| failed("open", b"", errno))?;
        apply(&root, entry)?;
        self.times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<(), TarError> {
        if name == OPAQUE {
            return self.opaque(parent);
        }
        // Other names of this shape are AUFS book-keeping.
        let hidden = &name[WHITEOUT.len()..];
        if name.starts_with(WHITEOUT_META) || hidden.is_empty() {
            return Ok(());
        }
        if hidden == b"." || hidden == b".." {
            let shown = String::from_utf8_lossy(path).into_owned();
            return Err(TarError::Outside(shown));
        }
        let hidden_path = [parent, if parent.is_empty() { b"" } else { b"/" }, hidden].concat();
        let directory = self.directories.get(parent)?;
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(directory, hidden, kind, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // The layer holds the name as well: a whiteout speaks of the layers below only (OCI layer.md, "Whiteouts").
            Err(Errno::EXIST) if is_directory(directory, hidden) => self.opaque(&hidden_path),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("mknod", &hidden_path, errno)),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), TarError> {
        let directory = self.directories.get(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(directory, c".", flags, Mode::empty())
            .and_then(|own| rustix::fs::fsetxattr(own, OPAQUE_XATTR, b"y", XattrFlags::empty()))
            .map_err(|errno| failed("setxattr", path, errno))
    }

    fn file<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), TarError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, _) = self.place(reader, entry, "open", |directory, name| {
            rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
        })?;
        reader.reference_payload(&entry.path)?;
        loop {
            let bytes = reader.payload()?;
            if bytes.is_empty() {
                break;
            }
            let count = match rustix::io::write(&file, bytes) {
                Err(Errno::INTR) => 0,
                result => result.map_err(|errno| failed("write", &entry.path, errno))?,
            };
            reader.consume(count)?;
        }
        self.totals.bytes += entry.size;
        apply(&file, entry)?;
        rustix::fs::futimens(&file, &times(entry.mtime))
            .map_err(|errno| failed("utimensat", &entry.path, errno))
    }

    fn directory<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), TarError> {
        let (directory, before) = self.place(reader, entry, "mkdir", |parent, name| {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) if is_directory(parent, name) => {}
                result => result?,
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        })?;
        apply(&directory, entry)?;
        self.times.push((entry.path.clone(), entry.mtime));
        self.directories.remember(&entry.path, directory);
        if before == Before::Whiteout {
            // Hidden below and made anew in the same layer: nothing of the old one may show.
            self.opaque(&entry.path)?;
        }
        Ok(())
    }

    fn hard_link<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), TarError> {
        let target = clean(&entry.link)?;
        if target == entry.path {
            return Ok(());
        }
        let (target_parent, target_name) = split(&target);
        if target_name.is_empty() {
            return Err(TarError::Outside(entry.shown()));
        }
        let source = self.directories.get(target_parent)?;
        let source = rustix::io::fcntl_dupfd_cloexec(source, 0)
            .map_err(|errno| failed("link", &entry.path, errno))?;
        self.place(reader, entry, "link", |directory, name| {
            rustix::fs::linkat(&source, target_name, directory, name, AtFlags::empty())
        })?;
        Ok(())
    }

    fn symlink<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), TarError> {
        self.place(reader, entry, "symlink", |directory, name| {
            rustix::fs::symlinkat(&*entry.link, directory, name)
        })?;
        let (parent, name) = split(&entry.path);
        apply_by_name(self.directories.get(parent)?, name, entry)
    }

    fn node<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), TarError> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = makedev(entry.device.0, entry.device.1);
        self.place(reader, entry, "mknod", |directory, name| {
            rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), device)
        })?;
        let (parent, name) = split(&entry.path);
        apply_by_name(self.directories.get(parent)?, name, entry)
    }

    /// Makes something with `make`, clearing its place first when it is taken.
    fn place<R: BufRead, T>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
        operation: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<(T, Before), TarError> {
        let (parent, name) = split(&entry.path);
        match make(self.directories.get(parent)?, name) {
            Err(Errno::EXIST) => {}
            result => {
                let made = result.map_err(|errno| failed(operation, &entry.path, errno))?;
                return Ok((made, Before::Nothing));
            }
        }
        let before = self.clear(reader, entry)?;
        let made = make(self.directories.get(parent)?, name)
            .map_err(|errno| failed(operation, &entry.path, errno))?;
        Ok((made, before))
    }

    /// Takes away what stands in an entry's place; a directory stays for a directory.
    fn clear<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<Before, TarError> {
        let fail = |errno: Errno| failed("remove", &entry.path, errno);
        let (parent, name) = split(&entry.path);
        let parent = self.directories.get(parent)?;
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory && entry.kind == Kind::Directory {
            return Ok(Before::Directory);
        }
        let Target::Layer { shadow } = &self.target else {
            let name = CString::new(name).map_err(|_| TarError::Header("NUL in a path"))?;
            cais_sys::tree::remove(parent, &name)
                .map_err(|error| failed("remove", &entry.path, error))?;
            self.directories.forget();
            return Ok(Before::Nothing);
        };
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(fail)?;
            return Ok(Before::Whiteout);
        }
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            self.replaced += 1;
            let number = self.replaced.to_string();
            rustix::fs::renameat(parent, name, shadow, &*number).map_err(fail)?;
            if let Some(recorder) = reader.recorder() {
                recorder.shadowed(self.replaced, &entry.path)?;
            }
        } else {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(fail)?;
        }
        if kind != FileType::RegularFile {
            self.directories.forget();
        }
        Ok(Before::Nothing)
    }

    fn directory_times(&self) {
        for (path, mtime) in self.times.iter().rev() {
            // A directory that a later entry replaced has no time to set.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            if let Ok(directory) = self.directories.open(path, flags) {
                let _ = rustix::fs::futimens(directory, &times(*mtime));
            }
        }
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
