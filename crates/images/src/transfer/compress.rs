//! Compressing a stream on all cores. It is cut into blocks of a fixed size, each block is compressed by itself (a gzip member,
//! a zstd frame), and the results follow each other in order: the bytes depend on the stream only, never on the machine.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use cais_types::Digest;
use cais_types::oci::{Descriptor, media_type};
use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest as _, Sha256};

use crate::error::ImageError;

/// Changes with every change of block size, level or compressor: forms made before cannot be made again.
pub const ENCODER: u32 = 1;
/// Bytes of a block before compression.
const BLOCK: usize = 1 << 20;
const GZIP_LEVEL: i32 = 1;
const ZSTD_LEVEL: i32 = 3;
/// Most threads for one stream.
const WORKERS_MAX: usize = 8;
/// Blocks beyond one a worker that are on their way.
const AHEAD: usize = 2;

/// How a layer is laid on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    None,
}

impl Compression {
    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
            Self::None => media_type::LAYER,
        }
    }
}

/// Writes what `produce` writes, compressed, and answers what became of it.
pub fn compress(
    compression: Compression,
    out: &mut (dyn Write + Send),
    produce: impl FnOnce(&mut dyn Write) -> Result<(), ImageError> + Send,
) -> Result<Descriptor, ImageError> {
    let mut out = Measured {
        out,
        hash: Sha256::new(),
        size: 0,
        failure: None,
    };
    let produced = match compression {
        Compression::None => produce(&mut out),
        _ => side_by_side(compression, &mut out, produce),
    };
    if let Some(error) = out.failure {
        return Err(ImageError::io("write", "layer", error));
    }
    produced?;
    let digest = Digest::from_bytes(out.hash.finalize().into());
    Ok(Descriptor::new(compression.media_type(), digest, out.size))
}

/// Runs producer, compressors and the writer (the caller's thread) together.
fn side_by_side(
    compression: Compression,
    out: &mut Measured<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), ImageError> + Send,
) -> Result<(), ImageError> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = cores.min(WORKERS_MAX);
    let (jobs, todo) = sync_channel::<Job>(workers + AHEAD);
    let (order, results) = sync_channel(workers + AHEAD);
    let (todo, spare) = (Mutex::new(todo), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let (todo, spare) = (&todo, &spare);
        for _ in 0..workers {
            scope.spawn(move || work(compression, todo, spare));
        }
        let producer = scope.spawn(move || {
            let mut cutter = Cutter {
                jobs,
                order,
                spare,
                block: Vec::with_capacity(BLOCK),
                any: false,
            };
            produce(&mut cutter)?;
            let ended = cutter.end();
            ended.map_err(|error| ImageError::io("write", "layer", error))
        });
        collect(&results, out, spare);
        // With nobody to take results a producer that still runs ends as well.
        drop(results);
        let panicked = |_| {
            Err(ImageError::Damaged(
                "layer".into(),
                "reader panicked".into(),
            ))
        };
        producer.join().unwrap_or_else(panicked)
    })
}

/// A block, and where its compressed form goes.
struct Job {
    plain: Vec<u8>,
    result: SyncSender<io::Result<Vec<u8>>>,
}

type Spare = Mutex<Vec<Vec<u8>>>;

fn take(spare: &Spare) -> Vec<u8> {
    let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
    spare.pop().unwrap_or_default()
}

fn give_back(spare: &Spare, mut buffer: Vec<u8>) {
    buffer.clear();
    let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
    spare.push(buffer);
}

/// Cuts what is written into blocks.
struct Cutter<'a> {
    jobs: SyncSender<Job>,
    order: SyncSender<Receiver<io::Result<Vec<u8>>>>,
    spare: &'a Spare,
    block: Vec<u8>,
    any: bool,
}

impl Cutter<'_> {
    fn cut(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let plain = std::mem::replace(&mut self.block, take(self.spare));
        let (result, later) = sync_channel(1);
        // In this order, so that the collector never waits for a job that nobody has been given.
        self.order.send(later).map_err(|_| gone())?;
        self.jobs.send(Job { plain, result }).map_err(|_| gone())?;
        self.any = true;
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if self.block.is_empty() && self.any {
            return Ok(());
        }
        self.cut()
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.cut()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses blocks until there are no more.
fn work(compression: Compression, todo: &Mutex<Receiver<Job>>, spare: &Spare) {
    let mut encoder = Encoder::new(compression);
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { plain, result }) = job else {
            return;
        };
        let mut packed = take(spare);
        let done = match &mut encoder {
            Ok(encoder) => encoder.pack(&plain, &mut packed).map(|()| packed),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        give_back(spare, plain);
        // The collector may have ended early.
        let _ = result.send(done);
    }
}

/// Writes the results in order, until all are written or one cannot be.
fn collect(
    results: &Receiver<Receiver<io::Result<Vec<u8>>>>,
    out: &mut Measured<'_>,
    spare: &Spare,
) {
    for result in results {
        let packed = match result.recv() {
            Ok(Ok(packed)) => packed,
            Ok(Err(error)) => {
                out.failure = Some(error);
                return;
            }
            // The producer or a compressor has failed; it says why.
            Err(_) => return,
        };
        if out.write_all(&packed).is_err() {
            return;
        }
        give_back(spare, packed);
    }
}

/// Compresses single blocks.
enum Encoder {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Self> {
        if compression == Compression::Zstd {
            return zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self::Zstd);
        }
        let level = CompressionLvl::new(GZIP_LEVEL);
        let level = level.map_err(|_| io::Error::other("invalid compression level"))?;
        Ok(Self::Gzip(Compressor::new(level)))
    }

    fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(compressor) => {
                packed.resize(compressor.gzip_compress_bound(plain.len()), 0);
                let count = compressor.gzip_compress(plain, packed);
                packed.truncate(count.map_err(|error| io::Error::other(error.to_string()))?);
            }
            Self::Zstd(compressor) => {
                packed.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
                let count = compressor.compress_to_buffer(plain, &mut packed[..])?;
                packed.truncate(count);
            }
        }
        Ok(())
    }
}

/// Counts and hashes what is written, and keeps why it could not be.
struct Measured<'a> {
    out: &'a mut (dyn Write + Send),
    hash: Sha256,
    size: u64,
    failure: Option<io::Error>,
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.write(bytes) {
            Ok(count) => {
                self.hash.update(&bytes[..count]);
                self.size += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        let words = (0_u32..)
            .flat_map(|number| format!("{} ", number.wrapping_mul(7919) % 1009).into_bytes());
        words.take(length).collect()
    }

    fn pack(compression: Compression, plain: &[u8]) -> (Descriptor, Vec<u8>) {
        let mut out = Vec::new();
        let blob = compress(compression, &mut out, |to| {
            for part in plain.chunks(70_000) {
                to.write_all(part)
                    .map_err(|error| ImageError::io("write", "test", error))?;
            }
            Ok(())
        });
        (blob.unwrap(), out)
    }

    #[test]
    fn streams_read_back_and_are_the_same_every_time() {
        for length in [0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 12345] {
            let plain = text(length);
            for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
                let (blob, packed) = pack(compression, &plain);
                assert_eq!(blob.digest, crate::content::digest(&packed));
                assert_eq!(blob.size, packed.len() as u64);
                assert_eq!(pack(compression, &plain), (blob, packed.clone()));
                let (_, mut back) = crate::compression::decompress(&packed[..]).unwrap();
                let mut again = Vec::new();
                io::Read::read_to_end(&mut back, &mut again).unwrap();
                assert!(again == plain, "{compression:?} of {length} bytes");
            }
        }
    }

    #[test]
    fn the_compressed_bytes_are_the_ones_that_were_promised() {
        // Digests of what this encoder makes are remembered: other bytes need another number.
        let (blob, _) = pack(Compression::Gzip, &text(3 * BLOCK));
        assert_eq!(
            (ENCODER, blob.digest.short()),
            (1, "96311bb1afb6".to_owned())
        );
    }

    #[test]
    fn a_reader_that_goes_and_a_source_that_fails_end_it() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let plain = text(40 * BLOCK);
        let all = |to: &mut dyn Write| {
            to.write_all(&plain)
                .map_err(|error| ImageError::io("write", "test", error))
        };
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let error = compress(compression, &mut Full(10_000), all).unwrap_err();
            assert!(error.to_string().starts_with("write layer"), "{error}");
            let error = compress(compression, &mut Vec::new(), |to| {
                to.write_all(&plain[..9 * BLOCK]).unwrap();
                Err(ImageError::RootFs)
            });
            assert!(matches!(error, Err(ImageError::RootFs)));
        }
    }
}
