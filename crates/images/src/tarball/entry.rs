//! One entry of a tar stream, with every extension applied.

use rustix::fs::Timespec;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type flag this store does not unpack.
    Other(u8),
}

/// An entry; paths and values are bytes as they stand in the archive.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-id and sticky, no file type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of payload that follow in the stream.
    pub size: u64,
    pub mtime: Timespec,
    pub device: (u32, u32),
    /// Extended attributes by full name.
    pub xattrs: super::header::Pairs,
}

impl Entry {
    /// The path for messages.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}
