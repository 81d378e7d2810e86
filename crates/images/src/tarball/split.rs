//! The record from which a layer's tar stream is made again bit by bit: every byte that is not the payload of a file,
//! and in between, in order, which file's contents come next. Stored zstd-compressed beside the layer.
//!
//! Records: `0 LEN BYTES` raw bytes; `1 SIZE LEN PATH` the payload of a file; `2 N LEN PATH` from here on the earlier
//! contents of PATH are found as `N` in the shadow directory, because a later entry took its place. Numbers are LEB128.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};

const RAW: u8 = 0;
const PAYLOAD: u8 = 1;
const SHADOW: u8 = 2;
const RAW_MAX: usize = 128 * 1024;
/// Longest path taken from a record.
const PATH_MAX: u64 = 64 * 1024;

/// Writes a record.
pub struct Recorder {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
}

impl Recorder {
    /// Starts a record in an empty file.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            out: zstd::stream::write::Encoder::new(BufWriter::new(file), 1)?,
            raw: Vec::with_capacity(RAW_MAX),
        })
    }

    /// Adds bytes that are not the payload of a file.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.extend_from_slice(bytes);
        if self.raw.len() >= RAW_MAX {
            self.flush_raw()?;
        }
        Ok(())
    }

    /// Says that the contents of a file follow.
    pub fn payload(&mut self, size: u64, path: &[u8]) -> io::Result<()> {
        self.with_path(PAYLOAD, size, path)
    }

    /// Says that what `path` held so far is now number `number` in the shadow directory.
    pub fn shadowed(&mut self, number: u64, path: &[u8]) -> io::Result<()> {
        self.with_path(SHADOW, number, path)
    }

    /// Ends the record.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush_raw()?;
        self.out.finish()?.flush()
    }

    fn with_path(&mut self, tag: u8, value: u64, path: &[u8]) -> io::Result<()> {
        self.flush_raw()?;
        let mut head = Vec::with_capacity(24 + path.len());
        head.push(tag);
        put_number(&mut head, value);
        put_number(&mut head, path.len() as u64);
        head.extend_from_slice(path);
        self.out.write_all(&head)
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let mut head = vec![RAW];
        put_number(&mut head, self.raw.len() as u64);
        self.out.write_all(&head)?;
        self.out.write_all(&self.raw)?;
        self.raw.clear();
        Ok(())
    }
}

/// A path whose contents were moved away, and after how many payloads that happened.
struct Moved {
    path: Vec<u8>,
    number: u64,
    after: u64,
}

/// Writes the tar stream that `record` describes: files are read below `diff`, replaced ones below `shadow`. Answers the bytes
/// of the files.
pub fn replay(
    record: &File,
    diff: BorrowedFd<'_>,
    shadow: Option<&OwnedFd>,
    out: &mut impl Write,
) -> io::Result<u64> {
    // One decoder run to learn what was replaced; most layers have nothing, and no second pass over files is needed.
    let moved = moves(record)?;
    let mut input = open(record)?;
    let mut payloads = 0;
    let mut bytes = 0;
    let mut buffer = vec![0; RAW_MAX];
    while let Some((tag, value)) = next(&mut input)? {
        match tag {
            RAW => copy_exactly(&mut input, value, out, &mut buffer)?,
            PAYLOAD => {
                let path = get_path(&mut input)?;
                let mut file = locate(&path, payloads, &moved, diff, shadow)?;
                copy_exactly(&mut file, value, out, &mut buffer)?;
                payloads += 1;
                bytes += value;
            }
            _ => drop(get_path(&mut input)?),
        }
    }
    Ok(bytes)
}

fn moves(record: &File) -> io::Result<Vec<Moved>> {
    let mut input = open(record)?;
    let mut moved = Vec::new();
    let mut payloads = 0;
    while let Some((tag, value)) = next(&mut input)? {
        match tag {
            RAW => {
                let skipped = io::copy(&mut (&mut input).take(value), &mut io::sink())?;
                if skipped != value {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            PAYLOAD => {
                get_path(&mut input)?;
                payloads += 1;
            }
            _ => moved.push(Moved {
                path: get_path(&mut input)?,
                number: value,
                after: payloads,
            }),
        }
    }
    Ok(moved)
}

fn open(record: &File) -> io::Result<impl Read> {
    rustix::fs::seek(record, rustix::fs::SeekFrom::Start(0))?;
    let decoder = zstd::stream::read::Decoder::new(record)?;
    Ok(BufReader::with_capacity(RAW_MAX, decoder))
}

fn locate(
    path: &[u8],
    payloads: u64,
    moved: &[Moved],
    diff: BorrowedFd<'_>,
    shadow: Option<&OwnedFd>,
) -> io::Result<File> {
    let later = moved.iter().find_map(|one| {
        let rest = path.strip_prefix(&*one.path)?;
        let below = rest.is_empty() || rest.starts_with(b"/");
        (payloads < one.after && below).then_some((one.number, rest))
    });
    let (root, path) = match (later, shadow) {
        (Some((number, rest)), Some(shadow)) => {
            let path = [number.to_string().as_bytes(), rest].concat();
            (shadow.as_fd(), path)
        }
        _ => (diff, path.to_vec()),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, &*path, flags, Mode::empty(), resolve)?;
    Ok(File::from(file))
}

fn copy_exactly(
    input: &mut impl Read,
    mut count: u64,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> io::Result<()> {
    while count > 0 {
        let want = usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
        let have = match input.read(&mut buffer[..want]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(have) => have,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        out.write_all(&buffer[..have])?;
        count -= have as u64;
    }
    Ok(())
}

fn next(input: &mut impl Read) -> io::Result<Option<(u8, u64)>> {
    let mut tag = [0];
    if input.read(&mut tag)? == 0 {
        return Ok(None);
    }
    if tag[0] > SHADOW {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some((tag[0], get_number(input)?)))
}

fn get_path(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = get_number(input)?;
    if length > PATH_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut path = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    input.read_exact(&mut path)?;
    Ok(path)
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn get_number(input: &mut impl Read) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
