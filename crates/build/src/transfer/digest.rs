//! Files as one digest: names, kinds, modes, contents and links, owners where they are kept, but no times.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use cais_types::Digest;
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::collect::{Collected, Item};

const BUFFER: usize = 256 * 1024;

/// The digest of everything that was collected.
pub fn digest(collected: &Collected, owners: bool) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    hash.update([u8::from(collected.directory)]);
    for item in &collected.items {
        if owners {
            hash.update(item.stat.st_uid.to_le_bytes());
            hash.update(item.stat.st_gid.to_le_bytes());
        }
        add(&mut hash, item, &mut buffer)?;
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

fn add(hash: &mut Sha256, item: &Item, buffer: &mut [u8]) -> io::Result<()> {
    for path in [&item.target, &item.name] {
        let bytes = path.as_os_str().as_bytes();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.update(item.stat.st_mode.to_le_bytes());
    match item.kind() {
        FileType::RegularFile => {
            hash.update((item.stat.st_size as u64).to_le_bytes());
            let mut file = File::from(item.open()?);
            loop {
                let count = file.read(buffer)?;
                if count == 0 {
                    return Ok(());
                }
                hash.update(&buffer[..count]);
            }
        }
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
