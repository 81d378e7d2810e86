//! Files as one digest: names, kinds, modes, contents and links, owners where they are kept, but no times.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use cais_types::Digest;
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::collect::{Collected, Item};
use crate::ports::FileMemory;

const BUFFER: usize = 256 * 1024;
/// So many bytes are worth another thread.
const MUCH: i64 = 4 << 20;
const THREADS_MAX: usize = 8;

/// The digest of everything that was collected.
pub fn digest(
    collected: &Collected,
    owners: bool,
    memory: Option<&dyn FileMemory>,
) -> io::Result<Digest> {
    let contents = contents(&collected.items, memory)?;
    let mut hash = Sha256::new();
    hash.update([u8::from(collected.directory)]);
    for (item, content) in collected.items.iter().zip(contents) {
        if owners {
            hash.update(item.stat.st_uid.to_le_bytes());
            hash.update(item.stat.st_gid.to_le_bytes());
        }
        add(&mut hash, item, content)?;
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

/// The digests of contents of files; none for what is no file. Those nobody remembers are read, by several threads where there
/// is much to read.
fn contents(items: &[Item], memory: Option<&dyn FileMemory>) -> io::Result<Vec<Option<Digest>>> {
    let mut contents = vec![None; items.len()];
    let mut unknown = Vec::new();
    let mut bytes = 0;
    for (number, item) in items.iter().enumerate() {
        if item.kind() != FileType::RegularFile {
            continue;
        }
        contents[number] = memory.and_then(|memory| memory.digest(item.stat.st_ino));
        if contents[number].is_none() {
            bytes += item.stat.st_size;
            unknown.push(number);
        }
    }
    let threads = match std::thread::available_parallelism() {
        Ok(threads) if bytes >= MUCH => threads.get().min(THREADS_MAX),
        _ => 1,
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        let mut buffer = vec![0; BUFFER];
        while let Some(number) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*number, content(&items[*number], &mut buffer)?));
        }
        Ok::<_, io::Error>(done)
    };
    let done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = vec![work()];
        for other in others {
            let panicked = |_| Err(io::Error::other("a thread that read files has panicked"));
            done.push(other.join().unwrap_or_else(panicked));
        }
        done
    });
    for part in done {
        for (number, digest) in part? {
            if let Some(memory) = memory {
                memory.learn(items[number].stat.st_ino, digest);
            }
            contents[number] = Some(digest);
        }
    }
    Ok(contents)
}

fn content(item: &Item, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut file = File::from(item.open()?);
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            return Ok(Digest::from_bytes(hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
    }
}

fn add(hash: &mut Sha256, item: &Item, content: Option<Digest>) -> io::Result<()> {
    for path in [&item.target, &item.name] {
        let bytes = path.as_os_str().as_bytes();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.update(item.stat.st_mode.to_le_bytes());
    if let Some(content) = content {
        hash.update(content.as_bytes());
    }
    match item.kind() {
        FileType::Symlink => {
            let link = item.link()?;
            hash.update((link.as_bytes().len() as u64).to_le_bytes());
            hash.update(link.as_bytes());
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            hash.update(item.stat.st_rdev.to_le_bytes());
        }
        _ => {}
    }
    Ok(())
}
