//! Unpacking one layer from one stream: the caller's thread reads, decompresses and hashes, a second thread unpacks.
//! Nothing is visible until the layer gets its name.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use cais_types::Digest;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{DIFF, LayerDirectory, RECORD, SHADOW};
use crate::compression::{Compression, decompress};
use crate::error::{ImageError, TarError};
use crate::tarball::extract::{Target, Totals, extract};
use crate::tarball::{TarReader, split::Recorder};

/// Bytes handed over at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way between the two threads.
const CHUNKS: usize = 16;

/// Bounds against archives that are small on the wire and huge on disk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unpacked bytes up to which any ratio is taken.
    pub free_bytes: u64,
    /// Unpacked bytes per compressed byte beyond that.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_bytes: 4 << 30,
            ratio: 500,
        }
    }
}

/// A layer's directory under a temporary name; dropped, it is deleted.
pub struct NewLayer {
    layers: Arc<LayerDirectory>,
    temporary: Option<String>,
    directory: OwnedFd,
}

impl NewLayer {
    /// Makes the directory.
    pub fn new(layers: &Arc<LayerDirectory>) -> Result<Self, ImageError> {
        let temporary = layers.temporary();
        let path = layers.path(&temporary);
        let private = Mode::from_raw_mode(0o700);
        rustix::fs::mkdirat(&layers.directory, &*temporary, private)
            .map_err(|errno| ImageError::io("mkdir", &path, errno))?;
        Ok(Self {
            directory: super::open_directory(&path)?,
            layers: layers.clone(),
            temporary: Some(temporary),
        })
    }

    /// Makes the directory of the layer's files.
    pub fn make_files(&self) -> Result<OwnedFd, ImageError> {
        make_below(&self.directory, DIFF, 0o755)
            .map_err(|errno| ImageError::io("mkdir", self.path(), errno))
    }

    /// Opens the directory of the layer's files.
    pub fn open_files(&self) -> Result<OwnedFd, ImageError> {
        super::open_directory(&self.path().join(DIFF))
    }

    /// Takes a directory over as that of the layer's files; false when it is on another file system.
    pub fn adopt(&self, files: &Path) -> Result<bool, ImageError> {
        match rustix::fs::renameat(rustix::fs::CWD, files, &self.directory, DIFF) {
            Ok(()) => {}
            Err(Errno::XDEV) => return Ok(false),
            Err(errno) => return Err(ImageError::io("rename", files, errno)),
        }
        let mode = Mode::from_raw_mode(0o755);
        let (user, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        rustix::fs::chownat(&self.directory, DIFF, user, group, AtFlags::empty())
            .and_then(|()| rustix::fs::chmodat(&self.directory, DIFF, mode, AtFlags::empty()))
            .map_err(|errno| ImageError::io("chmod", files, errno))?;
        Ok(true)
    }

    /// Starts the record of the layer's stream.
    pub fn recorder(&self) -> Result<Recorder, ImageError> {
        record_in(&self.directory).map_err(|error| ImageError::io("open", self.path(), error))
    }

    /// The layer, with the digest and length of its stream and the bytes in its files.
    pub fn finish(mut self, diff: Digest, tar_size: u64, size: u64) -> UnpackedLayer {
        UnpackedLayer {
            layers: self.layers.clone(),
            temporary: Mutex::new(self.temporary.take()),
            diff,
            tar_size,
            size,
            blob: diff,
            blob_size: tar_size,
        }
    }

    fn path(&self) -> PathBuf {
        self.layers
            .path(self.temporary.as_deref().unwrap_or_default())
    }
}

impl Drop for NewLayer {
    fn drop(&mut self) {
        discard(&self.layers, self.temporary.take());
    }
}

fn make_below(parent: &OwnedFd, name: &str, mode: u32) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::mkdirat(parent, name, mode)?;
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn record_in(directory: &OwnedFd) -> io::Result<Recorder> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let record = rustix::fs::openat(directory, RECORD, flags, Mode::from_raw_mode(0o600))?;
    Recorder::new(File::from(record))
}

/// A layer that is unpacked and has no name yet; dropped, it is deleted.
pub struct UnpackedLayer {
    layers: Arc<LayerDirectory>,
    /// Its name as long as nobody has taken it.
    temporary: Mutex<Option<String>>,
    /// Digest of the plain tar stream.
    pub diff: Digest,
    /// Bytes of the plain tar stream.
    pub tar_size: u64,
    /// Bytes in files.
    pub size: u64,
    /// Digest of the stream as it came.
    pub blob: Digest,
    /// Bytes of the stream as it came.
    pub blob_size: u64,
}

impl UnpackedLayer {
    /// Makes the layer visible under its final name; answers whether it was still there to be taken.
    pub fn publish(&self, name: &str) -> Result<bool, ImageError> {
        let mut temporary = self.temporary();
        if let Some(temporary) = &*temporary {
            self.layers.publish(temporary, name)?;
        }
        Ok(temporary.take().is_some())
    }

    /// As [`UnpackedLayer::publish`], in the place of another layer in one step; `keep` leaves the files of that one until the
    /// next start.
    pub fn replace(&self, name: &str, keep: bool) -> Result<bool, ImageError> {
        let mut temporary = self.temporary();
        if let Some(temporary) = &*temporary {
            self.layers.exchange(temporary, name)?;
        }
        let old = temporary.take();
        let taken = old.is_some();
        discard(&self.layers, old.filter(|_| !keep));
        Ok(taken)
    }

    fn temporary(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnpackedLayer {
    fn drop(&mut self) {
        let temporary = self.temporary().take();
        discard(&self.layers, temporary);
    }
}

fn discard(layers: &LayerDirectory, temporary: Option<String>) {
    let Some(name) = temporary else { return };
    if let Err(error) = layers.delete(&name) {
        tracing::warn!(%error, name, "a temporary layer could not be deleted");
    }
}

/// A layer whose stream has been read and whose files may still be being written.
pub struct Unpacking {
    new: Option<NewLayer>,
    writer: Option<JoinHandle<Result<Written, TarError>>>,
    produced: Result<Produced, TarError>,
}

struct Produced {
    /// Known here when the stream is plain; else the writer hashes.
    diff: Option<Digest>,
    blob: Option<Digest>,
    blob_size: u64,
    tar_size: u64,
}

struct Written {
    diff: Option<Digest>,
    totals: Totals,
}

enum Chunk {
    Bytes(Vec<u8>),
    Failed,
}

/// Reads a layer's stream to its end. The files are written meanwhile and possibly after; [`Unpacking::finish`] waits.
pub fn unpack(
    layers: &Arc<LayerDirectory>,
    stream: impl Read + Send,
    limits: Limits,
) -> Result<Unpacking, ImageError> {
    cais_sys::failpoint::reach("unpack-begin");
    let new = NewLayer::new(layers)?;
    let path = new.path();
    let directory = rustix::io::fcntl_dupfd_cloexec(&new.directory, 0)
        .map_err(|errno| ImageError::io("dup", &path, errno))?;
    let mut unpacking = Unpacking {
        new: Some(new),
        writer: None,
        produced: Err(TarError::UnexpectedEof),
    };
    let (to_writer, from_producer) = sync_channel(CHUNKS);
    let (give_back, reuse) = channel();
    let plain = Arc::new(OnceLock::new());
    let is_plain = plain.clone();
    let writer = std::thread::Builder::new()
        .name("layer".to_owned())
        .spawn(move || {
            let input = ChunkReader {
                chunks: from_producer,
                give_back,
                current: Vec::new(),
                used: 0,
                is_plain,
                hash: None,
                ended: false,
            };
            write(&directory, input)
        })
        .map_err(|error| ImageError::io("clone", &path, error))?;
    unpacking.writer = Some(writer);
    unpacking.produced = produce(stream, limits, &plain, &to_writer, &reuse);
    if unpacking.produced.is_err() {
        let _ = to_writer.send(Chunk::Failed);
    }
    Ok(unpacking)
}

impl Unpacking {
    /// Whether the files are all written, or have failed to be.
    pub fn is_finished(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the files and answers the layer, or why there is none.
    pub fn finish(mut self) -> Result<UnpackedLayer, ImageError> {
        let written = self.join();
        let produced = std::mem::replace(&mut self.produced, Err(TarError::UnexpectedEof));
        let (produced, written) = match (produced, written) {
            (Ok(produced), Ok(written)) => (produced, written),
            // The writer's failure is the cause when it ended first; the producer's when the stream broke.
            (Err(error), _) if !matches!(error, TarError::Stream(_) | TarError::UnexpectedEof) => {
                return Err(error.into());
            }
            (Ok(_), Err(error)) => return Err(error.into()),
            (Err(produced), Err(TarError::UnexpectedEof)) | (Err(produced), Ok(_)) => {
                return Err(produced.into());
            }
            (Err(TarError::Stream(error)), Err(written)) => {
                let broken = error.kind() == io::ErrorKind::BrokenPipe;
                return Err(if broken { written } else { error.into() }.into());
            }
            (Err(_), Err(written)) => return Err(written.into()),
        };
        let diff = produced.diff.or(written.diff);
        let diff = diff.ok_or(TarError::UnexpectedEof)?;
        let new = self.new.take().ok_or(TarError::UnexpectedEof)?;
        let mut layer = new.finish(diff, produced.tar_size, written.totals.bytes);
        layer.blob_size = produced.blob_size;
        layer.blob = produced.blob.unwrap_or(diff);
        Ok(layer)
    }

    fn join(&mut self) -> Result<Written, TarError> {
        let Some(writer) = self.writer.take() else {
            return Err(TarError::UnexpectedEof);
        };
        let panicked = |_| Err(TarError::Stream(io::Error::other("layer writer panicked")));
        writer.join().unwrap_or_else(panicked)
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // The writer must have ended before its directory goes.
        if self.writer.is_some() {
            let _ = self.join();
        }
    }
}

/// Reads, decompresses, hashes; hands plain bytes on.
fn produce(
    stream: impl Read + Send,
    limits: Limits,
    plain: &OnceLock<bool>,
    to_writer: &SyncSender<Chunk>,
    reuse: &Receiver<Vec<u8>>,
) -> Result<Produced, TarError> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let counted = Counting {
        stream,
        counts: counts.clone(),
    };
    let (compression, mut decoded) = decompress(counted)?;
    let is_plain = compression == Compression::Plain;
    if is_plain {
        counts.lock().map_err(|_| poisoned())?.hash = None;
    }
    let _ = plain.set(is_plain);
    let mut hash = is_plain.then(Sha256::new);
    let mut tar_size = 0;
    loop {
        let mut chunk = reuse.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let count = fill(&mut decoded, &mut chunk)?;
        chunk.truncate(count);
        if count == 0 {
            break;
        }
        if let Some(hash) = &mut hash {
            hash.update(&chunk);
        }
        tar_size += count as u64;
        if tar_size > limits.free_bytes && !is_plain {
            let read = counts.lock().map_err(|_| poisoned())?.bytes;
            if tar_size / limits.ratio > read {
                let text = format!("more than {} times its compressed size", limits.ratio);
                return Err(TarError::Limit(text));
            }
        }
        to_writer
            .send(Chunk::Bytes(chunk))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
    drop(decoded);
    to_writer
        .send(Chunk::Bytes(Vec::new()))
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let mut counts = counts.lock().map_err(|_| poisoned())?;
    let finish = |hash: Sha256| Digest::from_bytes(hash.finalize().into());
    Ok(Produced {
        diff: hash.map(finish),
        blob: counts.hash.take().map(finish),
        blob_size: counts.bytes,
        tar_size,
    })
}

fn poisoned() -> TarError {
    TarError::Stream(io::Error::other("reader panicked"))
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match from.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Unpacks plain bytes into the layer's directory.
fn write(own: &OwnedFd, input: ChunkReader) -> Result<Written, TarError> {
    let root = make_below(own, DIFF, 0o755).map_err(io::Error::from)?;
    let shadow = make_below(own, SHADOW, 0o700).map_err(io::Error::from)?;
    let recorder = record_in(own)?;
    let mut reader = TarReader::recording(input, recorder);
    let totals = extract(&mut reader, root, Target::Layer { shadow })?;
    let (input, recorder) = reader.finish()?;
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    // Only a layer that names a file twice needs the shadow directory.
    let _ = rustix::fs::unlinkat(own, SHADOW, AtFlags::REMOVEDIR);
    let finish = |hash: Sha256| Digest::from_bytes(hash.finalize().into());
    Ok(Written {
        diff: input.hash.map(finish),
        totals,
    })
}

/// The writer's end of the channel as a buffered reader.
struct ChunkReader {
    chunks: Receiver<Chunk>,
    give_back: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    /// Set before the first chunk; a plain stream is hashed by the producer.
    is_plain: Arc<OnceLock<bool>>,
    hash: Option<Sha256>,
    ended: bool,
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.current.len() && !self.ended {
            let old = std::mem::take(&mut self.current);
            if old.capacity() > 0 {
                let _ = self.give_back.send(old);
            }
            self.used = 0;
            match self.chunks.recv() {
                Ok(Chunk::Bytes(bytes)) => {
                    self.ended = bytes.is_empty();
                    self.current = bytes;
                }
                Ok(Chunk::Failed) | Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            if self.is_plain.get() == Some(&false) {
                self.hash
                    .get_or_insert_with(Sha256::new)
                    .update(&self.current);
            }
        }
        Ok(&self.current[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

struct Counts {
    bytes: u64,
    hash: Option<Sha256>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            bytes: 0,
            hash: Some(Sha256::new()),
        }
    }
}

/// Counts and hashes the stream as it comes.
struct Counting<R> {
    stream: R,
    counts: Arc<Mutex<Counts>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.bytes += count as u64;
        if let Some(hash) = &mut counts.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}
