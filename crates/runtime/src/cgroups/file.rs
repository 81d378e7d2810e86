//! Files of a cgroup directory: one open and one read or write each, relative to the hierarchy's root descriptor.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::CgroupError;
use super::hierarchy::Hierarchy;

/// A directory of one hierarchy; it need not exist.
#[derive(Clone, Debug)]
pub(super) struct Directory<'a> {
    hierarchy: &'a Hierarchy,
    path: &'a str,
}

impl<'a> Directory<'a> {
    pub(super) fn new(hierarchy: &'a Hierarchy, path: &'a str) -> Self {
        Self { hierarchy, path }
    }

    fn below(&self, file: &str) -> String {
        if self.path.is_empty() {
            file.to_owned()
        } else {
            format!("{}/{file}", self.path)
        }
    }

    /// The name on the host, for messages.
    pub(super) fn host_path(&self, file: &str) -> String {
        let mut path = self.hierarchy.mounted.display().to_string();
        for part in [self.path, file] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }

    pub(super) fn failed(&self, errno: Errno) -> CgroupError {
        CgroupError::Directory {
            path: self.host_path(""),
            source: errno.into(),
        }
    }

    /// Makes the directory; `false` when it was there.
    pub(super) fn make(&self) -> Result<bool, Errno> {
        match mkdirat(&self.hierarchy.root, self.path, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn open(&self) -> Result<OwnedFd, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.hierarchy.root, self.path, flags, Mode::empty())
            .map_err(|errno| self.failed(errno))
    }

    /// Removes the directory itself.
    pub(super) fn unlink(&self) -> Result<(), Errno> {
        unlinkat(&self.hierarchy.root, self.path, AtFlags::REMOVEDIR)
    }

    /// Paths of the directories right below, below the root; none when this one is gone.
    pub(super) fn children(&self) -> Result<Vec<String>, CgroupError> {
        let open = match self.open() {
            Err(CgroupError::Directory { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let mut children = Vec::new();
        for entry in Dir::new(open).map_err(|errno| self.failed(errno))? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT | Errno::NODEV) => break,
                Err(errno) => return Err(self.failed(errno)),
            };
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                children.push(self.below(&name));
            }
        }
        Ok(children)
    }

    pub(super) fn at(&self, path: &'a str) -> Self {
        Self {
            hierarchy: self.hierarchy,
            path,
        }
    }

    /// Opens a file for writing.
    pub(super) fn open_for_write(&self, file: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&self.hierarchy.root, self.below(file), flags, Mode::empty())
    }

    /// Writes a value in one call, as cgroup files want it.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.open_for_write(file)
            .and_then(|open| rustix::io::write(open, value.as_bytes()))
            .map(drop)
            .map_err(|errno| self.write_failed(file, value, errno))
    }

    pub(super) fn write_failed(&self, file: &str, value: &str, errno: Errno) -> CgroupError {
        let (path, value) = (self.host_path(file), value.to_owned());
        CgroupError::Write {
            path,
            value,
            source: errno.into(),
        }
    }

    /// Writes to a file that some kernels lack; says so in terms of the resource that was asked for.
    pub(super) fn write_resource(
        &self,
        resource: &str,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        match self.write(file, value) {
            Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(CgroupError::Unsupported {
                    resource: resource.to_owned(),
                    reason: format!("the kernel has no {file}"),
                })
            }
            other => other,
        }
    }

    /// Reads a whole file.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        self.read_bytes(file).map_err(|errno| CgroupError::Read {
            path: self.host_path(file),
            source: errno.into(),
        })
    }

    /// Reads a file that may be missing, or whose figures may be (`EOPNOTSUPP`).
    pub(super) fn read_optional(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match self.read_bytes(file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => Ok(None),
            Err(errno) => Err(CgroupError::Read {
                path: self.host_path(file),
                source: errno.into(),
            }),
        }
    }

    fn read_bytes(&self, file: &str) -> Result<String, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = openat(&self.hierarchy.root, self.below(file), flags, Mode::empty())?;
        let (mut text, mut filled) = (vec![0; 4096], 0);
        loop {
            let count = rustix::io::read(&open, &mut text[filled..])?;
            filled += count;
            if count == 0 {
                break;
            }
            if filled == text.len() {
                text.resize(filled * 2, 0);
            }
        }
        text.truncate(filled);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The number behind a key in a file of `key number` lines.
pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key {
            value.trim().parse().ok()
        } else {
            None
        }
    })
}
