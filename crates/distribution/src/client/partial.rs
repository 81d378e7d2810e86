//! Bytes of layers that have not arrived whole: `<dir>/<hex digest>`, written as they come and read again by the next pull.
//! Nothing is synced: after a power cut they may be wrong, which the digest of the layer finds out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use cais_types::Digest;
use cais_types::oci::Descriptor;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// What no pull has asked for in this time is deleted.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Smaller layers are fetched again whole: that costs less than a file.
const WORTH_KEEPING: u64 = 64 << 10;

/// How long a transfer waits for another that has the same partial.
const HELD_MAX: Duration = Duration::from_secs(2);

/// The directory of partial layers.
#[derive(Clone, Debug)]
pub struct Partials {
    directory: Option<PathBuf>,
}

/// The partial of one layer, held by one transfer.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
    /// Bytes in it when it was opened.
    pub length: u64,
}

impl Partials {
    /// Uses a directory, which is made when it is needed.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        self.directory.as_ref().map(|dir| dir.join(digest.hex()))
    }

    /// Opens the partial of a layer; none when it is too small to be worth it, when the disk does not take it or another transfer keeps it.
    pub fn open(&self, layer: &Descriptor) -> Option<Partial> {
        if layer.size < WORTH_KEEPING {
            return None;
        }
        let path = self.path(&layer.digest)?;
        match Partial::open(path, layer.size) {
            Ok(partial) => Some(partial),
            Err(error) => {
                tracing::debug!("partial of {}: {error}", layer.digest);
                None
            }
        }
    }

    /// Deletes the partial of a layer that is in the store.
    pub fn forget(&self, digest: &Digest) {
        if let Some(path) = self.path(digest) {
            let _ = fs::remove_file(path);
        }
    }

    /// Deletes partials that nobody came back for.
    pub fn sweep(&self) {
        let now = SystemTime::now();
        self.drop_idle(&|then| now.duration_since(then).is_ok_and(|age| age > KEPT));
    }

    /// Bytes that all of them take.
    pub fn size(&self) -> u64 {
        let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |meta| on_disk(&meta));
        self.entries().map(size).sum()
    }

    /// Deletes those that no transfer has and that `accepts` by the time of their last byte; answers the bytes freed.
    pub fn drop_idle(&self, accepts: &dyn Fn(SystemTime) -> bool) -> u64 {
        let idle = |entry: fs::DirEntry| {
            let meta = entry.metadata().ok()?;
            let file = meta.is_file().then(|| File::open(entry.path()))?.ok()?;
            // Held until it is deleted: a transfer that waits for it finds an empty one.
            flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            let gone = accepts(meta.modified().ok()?) && fs::remove_file(entry.path()).is_ok();
            gone.then(|| on_disk(&meta))
        };
        self.entries().filter_map(idle).sum()
    }

    fn entries(&self) -> impl Iterator<Item = fs::DirEntry> {
        let directory = self.directory.as_ref();
        let entries = directory.and_then(|directory| fs::read_dir(directory).ok());
        entries.into_iter().flatten().flatten()
    }
}

impl Partial {
    fn open(path: PathBuf, size: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            make_private(directory)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        hold(&file)?;
        let mut length = file.metadata()?.len();
        if length > size {
            file.set_len(0)?;
            length = 0;
        }
        Ok(Self { path, file, length })
    }

    /// Reads the part with these bounds into `buffer`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// Adds bytes at their place.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Whether it holds the whole layer, bit by bit.
    pub fn holds(&mut self, layer: &Descriptor) -> io::Result<bool> {
        if self.file.metadata()?.len() != layer.size {
            return Ok(false);
        }
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut buffer = vec![0; 128 << 10];
        self.file.rewind()?;
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(hash.finish().as_ref() == layer.digest.as_bytes()),
                count => hash.update(&buffer[..count]),
            }
        }
    }

    /// Empties it.
    pub fn clear(&mut self) -> io::Result<()> {
        self.length = 0;
        self.file.set_len(0)
    }

    /// Deletes it.
    pub fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the file for one transfer; one that was just given up may still be writing its last bytes.
fn hold(file: &File) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if started.elapsed() < HELD_MAX => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return Ok(other?),
        }
    }
}

/// Bytes that a file takes.
fn on_disk(meta: &fs::Metadata) -> u64 {
    meta.blocks() * 512
}

fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(bytes: &[u8]) -> Descriptor {
        let digest = super::super::repository::digest_of(bytes);
        Descriptor::new("", digest, bytes.len() as u64)
    }

    #[test]
    fn a_partial_is_found_again_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let partials = Partials::new(Some(dir.path().join("partial")));
        let bytes = vec![7; 100_000];
        let layer = layer(&bytes);
        let partial = partials.open(&layer).unwrap();
        assert!(partials.open(&layer).is_none(), "held by one at a time");
        partial.write_at(0, &bytes[..50_000]).unwrap();
        drop(partial);
        let mut partial = partials.open(&layer).unwrap();
        assert_eq!(partial.length, 50_000);
        assert!(!partial.holds(&layer).unwrap());
        partial.write_at(50_000, &bytes[50_000..]).unwrap();
        assert!(partial.holds(&layer).unwrap());
        partial.write_at(9, b"J").unwrap();
        assert!(!partial.holds(&layer).unwrap());
        drop(partial);
        partials.forget(&layer.digest);
        assert_eq!(partials.open(&layer).unwrap().length, 0);
    }

    #[test]
    fn those_that_nobody_has_are_counted_and_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let partials = Partials::new(Some(dir.path().to_owned()));
        let (held, idle) = (layer(&[1; 80_000]), layer(&[2; 80_000]));
        let one = partials.open(&held).unwrap();
        one.write_at(0, &[1; 40_960]).unwrap();
        let other = partials.open(&idle).unwrap();
        other.write_at(0, &[2; 8192]).unwrap();
        drop(other);
        assert_eq!(partials.size(), 40_960 + 8192);
        assert_eq!(partials.drop_idle(&|_| false), 0);
        assert_eq!(partials.drop_idle(&|_| true), 8192);
        assert_eq!(partials.size(), 40_960);
        drop(one);
        assert_eq!(partials.open(&held).unwrap().length, 40_960);
    }

    #[test]
    fn what_is_longer_than_the_layer_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let partials = Partials::new(Some(dir.path().to_owned()));
        let layer = layer(&[1; 70_000]);
        fs::write(dir.path().join(layer.digest.hex()), vec![1; 70_001]).unwrap();
        assert_eq!(partials.open(&layer).unwrap().length, 0);
    }
}
