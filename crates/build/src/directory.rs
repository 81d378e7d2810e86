//! A directory as the context of a build, on the client's side: what there is in it, and archives of that.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cais_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::dockerfile::ignore::{Ignore, clean};
use crate::listing::{Entry, Kind, Listing, Ranges};

/// A file that changed so shortly ago may change again without another time: clocks of file systems are coarse.
const UNSETTLED: Duration = Duration::from_millis(100);
/// Buffers of files, in bytes.
const BUFFERS: (u64, u64) = (8 << 10, 128 << 10);

/// What was found in a directory.
pub struct Directory {
    root: PathBuf,
    found: Vec<Found>,
    extra: Option<Extra>,
}

/// A file that is no part of the directory and is sent as if it were: a Dockerfile from elsewhere.
pub struct Extra {
    pub name: String,
    pub text: Vec<u8>,
}

/// A file, directory or link, by its path from the root.
struct Found {
    path: PathBuf,
    metadata: Metadata,
}

impl Directory {
    /// Finds all that is not ignored. Files of `always` go along even so.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find(
        root: PathBuf,
        ignore: &Ignore,
        always: &[&str],
        extra: Option<Extra>,
    ) -> io::Result<Self> {
        let mut search = Search {
            root: &root,
            ignore,
            always,
            found: Vec::new(),
        };
        search.below(Path::new(""))?;
        let found = search.found;
        Ok(Self { root, found, extra })
    }

    /// All entries, as numbers.
    pub fn all(&self) -> Ranges {
        vec![(0, self.found.len() + usize::from(self.extra.is_some()))]
    }

    /// The list of all entries, for a context of this name.
    pub fn listing(&self, name: &str) -> Listing {
        let now = SystemTime::now();
        let mut entries: Vec<Entry> = self.found.iter().map(|found| found.entry(now)).collect();
        entries.extend(self.extra.as_ref().map(|extra| Entry {
            path: extra.name.clone().into_bytes(),
            kind: Kind::File,
            stamp: 0,
        }));
        Listing {
            name: name.to_owned(),
            key: key(&self.root),
            entries,
        }
    }

    /// Writes an archive of some entries, by their numbers in the list.
    ///
    /// # Errors
    /// Those of the files and of the stream.
    pub fn pack(&self, wanted: &Ranges, out: &mut impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        archive.follow_symlinks(false);
        for number in wanted.iter().flat_map(|(from, to)| *from..*to) {
            match (self.found.get(number), &self.extra) {
                (Some(found), _) => found
                    .append(&mut archive, &self.root)
                    .map_err(|error| found.named(&error))?,
                (None, Some(extra)) => {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(extra.text.len() as u64);
                    header.set_mode(0o600);
                    archive.append_data(&mut header, &extra.name, &*extra.text)?;
                }
                (None, None) => {}
            }
        }
        archive.finish()
    }
}

/// The same for all builds from a directory of this host by this user.
fn key(root: &Path) -> String {
    let mut hash = Sha256::new();
    let host = rustix::system::uname();
    for part in [host.nodename().to_bytes(), root.as_os_str().as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(fs::read("/etc/machine-id").unwrap_or_default());
    hash.update(rustix::process::geteuid().as_raw().to_le_bytes());
    Digest::from_bytes(hash.finalize().into()).hex()
}

struct Search<'a> {
    root: &'a Path,
    ignore: &'a Ignore,
    always: &'a [&'a str],
    found: Vec<Found>,
}

impl Search<'_> {
    fn below(&mut self, below: &Path) -> io::Result<()> {
        let mut entries: Vec<_> =
            fs::read_dir(self.root.join(below))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            let text = clean(&path.to_string_lossy());
            let is_directory = entry.file_type()?.is_dir();
            let ignored = !self.always.contains(&&*text) && self.ignore.ignores(&text);
            if !ignored {
                let metadata = entry.metadata()?;
                let kind = metadata.file_type();
                // Sockets and pipes have no place in a context.
                if kind.is_file() || kind.is_dir() || kind.is_symlink() {
                    let path = path.clone();
                    self.found.push(Found { path, metadata });
                }
            }
            let leads = self
                .always
                .iter()
                .any(|name| name.starts_with(&format!("{text}/")));
            if is_directory && (!ignored || leads || self.ignore.may_except_below(&text)) {
                self.below(&path)?;
            }
        }
        Ok(())
    }
}

impl Found {
    fn entry(&self, now: SystemTime) -> Entry {
        let kind = self.metadata.file_type();
        Entry {
            path: self.path.as_os_str().as_bytes().to_vec(),
            kind: match kind.is_dir() {
                true => Kind::Directory,
                false if kind.is_symlink() => Kind::Link,
                false => Kind::File,
            },
            stamp: self.stamp(now),
        }
    }

    /// A change of whatever kind sets `ctime`, which nobody can set otherwise.
    fn stamp(&self, now: SystemTime) -> u64 {
        let metadata = &self.metadata;
        let changed = Duration::new(
            u64::try_from(metadata.ctime()).unwrap_or(0),
            u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        );
        let age = now.duration_since(SystemTime::UNIX_EPOCH + changed);
        if age.is_ok_and(|age| age < UNSETTLED) {
            return 0;
        }
        let mut hash = Sha256::new();
        for number in [metadata.dev(), metadata.ino(), metadata.size()] {
            hash.update(number.to_le_bytes());
        }
        for number in [metadata.ctime(), metadata.ctime_nsec()] {
            hash.update(number.to_le_bytes());
        }
        let bytes: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }

    /// An error that says which file it is about.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// One entry, owned by root: who owns files here means nothing to the image.
    fn append<W: Write>(&self, archive: &mut tar::Builder<W>, root: &Path) -> io::Result<()> {
        let from = root.join(&self.path);
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&self.metadata);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(self.metadata.mtime()).unwrap_or(0));
        if self.metadata.is_symlink() {
            header.set_size(0);
            return archive.append_link(&mut header, &self.path, fs::read_link(from)?);
        }
        if self.metadata.is_dir() {
            header.set_size(0);
            return archive.append_data(&mut header, &self.path, io::empty());
        }
        let size = self.metadata.size();
        let contents = Exactly {
            file: File::open(from)?,
            left: size,
        };
        let capacity = usize::try_from(size.clamp(BUFFERS.0, BUFFERS.1)).unwrap_or(usize::MAX);
        let contents = BufReader::with_capacity(capacity, contents);
        archive.append_data(&mut header, &self.path, contents)
    }
}

/// As many bytes of a file as it was said to have.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            let text = "became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
