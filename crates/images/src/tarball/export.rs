//! Writes a file tree as a tar stream: names in byte order, hard links, devices, extended attributes, times to the
//! nanosecond.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::header::{BLOCK, XATTR_PREFIX};
use super::metadata::read_entry;
use super::{Entry, Kind};

const BUFFER: usize = 256 * 1024;
/// Deepest directory written; descriptors are held for each level.
const DEPTH_MAX: usize = 900;

/// Writes everything below `root` (the root directory itself left out, as `docker export` does). Other mounts in the tree
/// show as the empty directories or files they cover.
pub fn export(root: BorrowedFd<'_>, out: &mut impl Write) -> io::Result<()> {
    export_below(root, "", out)
}

/// The same, everything below a directory of this name in the archive; none without a name.
pub fn export_below(root: BorrowedFd<'_>, directory: &str, out: &mut impl Write) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(root, c".", flags, Mode::empty())?;
    let mut exporter = Exporter {
        out,
        links: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    let mut path = Vec::new();
    if !directory.is_empty() {
        path = format!("{directory}/").into_bytes();
        let header = HeaderBlock {
            path: &path,
            link: &[],
            flag: b'5',
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            seconds: 0,
            nanoseconds: 0,
            device: (0, 0),
        };
        header.write(exporter.out, &[])?;
    }
    exporter.directory(&root, &mut path, 0)?;
    exporter.out.write_all(&[0; 2 * BLOCK])
}

struct Exporter<'a, W> {
    out: &'a mut W,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Exporter<'_, W> {
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in sorted_names(directory.as_fd())? {
            let length = path.len();
            path.extend_from_slice(name.to_bytes());
            self.entry(directory.as_fd(), &name, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        let Some(entry) = read_entry(parent, name, path, &stat)? else {
            return Ok(());
        };
        match entry.kind {
            Kind::Directory => {
                HeaderBlock::of(&entry, b'5').write(self.out, &entry.xattrs)?;
                match cais_sys::tree::open_directory(parent, name) {
                    Ok(child) => {
                        path.push(b'/');
                        self.directory(&child, path, depth + 1)
                    }
                    // Another mount: what is mounted there is no part of this tree.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Kind::File => self.file(parent, name, &stat, &entry),
            Kind::Symlink => HeaderBlock::of(&entry, b'2').write(self.out, &entry.xattrs),
            Kind::CharDevice => HeaderBlock::of(&entry, b'3').write(self.out, &entry.xattrs),
            Kind::BlockDevice => HeaderBlock::of(&entry, b'4').write(self.out, &entry.xattrs),
            _ => HeaderBlock::of(&entry, b'6').write(self.out, &entry.xattrs),
        }
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        entry: &Entry,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                return HeaderBlock::link(entry, first).write(self.out, &[]);
            }
            self.links.insert(inode, entry.path.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let mut file = File::from(rustix::fs::openat2(
            parent,
            name,
            flags,
            Mode::empty(),
            resolve,
        )?);
        HeaderBlock::of(entry, b'0').write(self.out, &entry.xattrs)?;
        let size = entry.size;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let have = file.read(&mut self.buffer[..want])?;
            // A file that shrinks while it is read is filled up, so that the stream stays whole.
            let have = if have == 0 {
                self.buffer[..want].fill(0);
                want
            } else {
                have
            };
            self.out.write_all(&self.buffer[..have])?;
            left -= have as u64;
        }
        pad(self.out, size)
    }
}

/// What goes into a header; values that do not fit the block go into a pax header before it.
pub struct HeaderBlock<'a> {
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub flag: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub seconds: i64,
    pub nanoseconds: u64,
    pub device: (u32, u32),
}

impl<'a> HeaderBlock<'a> {
    /// The block of an entry, with its type flag.
    pub fn of(entry: &'a Entry, flag: u8) -> Self {
        Self {
            path: &entry.path,
            link: &entry.link,
            flag,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            seconds: entry.mtime.tv_sec,
            nanoseconds: entry.mtime.tv_nsec as u64,
            device: entry.device,
        }
    }

    /// The block of another name of a file that stands at `first` already.
    pub fn link(entry: &'a Entry, first: &'a [u8]) -> Self {
        Self {
            link: first,
            size: 0,
            ..Self::of(entry, b'1')
        }
    }

    /// Writes the block, and the pax header it needs.
    pub fn write(&self, out: &mut impl Write, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let mut records = Vec::new();
        if self.path.len() > 100 || !self.path.is_ascii() {
            record(&mut records, b"path", self.path);
        }
        if self.link.len() > 100 || !self.link.is_ascii() {
            record(&mut records, b"linkpath", self.link);
        }
        if self.size >= 1 << 33 {
            record(&mut records, b"size", self.size.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", self.uid), (b"gid", self.gid)] {
            if id >= 1 << 21 {
                record(&mut records, key, id.to_string().as_bytes());
            }
        }
        if self.nanoseconds != 0 || !(0..1 << 33).contains(&self.seconds) {
            record(&mut records, b"mtime", self.time().as_bytes());
        }
        for (key, value) in xattrs {
            record(&mut records, &[XATTR_PREFIX, key].concat(), value);
        }
        if !records.is_empty() {
            let name = [b"PaxHeaders.0/".as_slice(), self.path].concat();
            let head = HeaderBlock {
                path: &name[..name.len().min(99)],
                link: &[],
                flag: b'x',
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                seconds: 0,
                nanoseconds: 0,
                device: (0, 0),
            };
            out.write_all(&head.block())?;
            out.write_all(&records)?;
            pad(out, records.len() as u64)?;
        }
        out.write_all(&self.block())
    }

    fn time(&self) -> String {
        let (seconds, nanoseconds) = (self.seconds, self.nanoseconds);
        let text = if seconds < 0 && nanoseconds > 0 {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
        } else if nanoseconds > 0 {
            format!("{seconds}.{nanoseconds:09}")
        } else {
            return seconds.to_string();
        };
        text.trim_end_matches('0').to_owned()
    }

    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let name = &self.path[..self.path.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], u64::from(self.uid) & 0o7_777_777);
        octal(&mut block[116..124], u64::from(self.gid) & 0o7_777_777);
        octal(&mut block[124..136], self.size & 0o77_777_777_777);
        let seconds = u64::try_from(self.seconds).unwrap_or(0) & 0o77_777_777_777;
        octal(&mut block[136..148], seconds);
        block[156] = self.flag;
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let digits = format!("{value:0width$o}");
    field[..width].copy_from_slice(&digits.as_bytes()[digits.len() - width..]);
    field[width] = 0;
}

/// Appends `LENGTH KEY=VALUE\n`.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Fills up the last block after a payload of `size` bytes.
pub fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = (size.next_multiple_of(BLOCK as u64) - size) as usize;
    out.write_all(&[0; BLOCK][..rest])
}

/// Names in a directory in byte order.
pub fn sorted_names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
