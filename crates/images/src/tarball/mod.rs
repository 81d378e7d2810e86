//! Tar streams: reading them entry by entry, recording what is needed to make them again bit by bit, unpacking them
//! below a directory descriptor, and writing one from a file tree.

pub mod entry;
pub mod export;
pub mod extract;
mod header;
pub mod metadata;
pub mod place;
pub mod reader;
pub mod split;

pub use entry::{Entry, Kind};
pub use reader::TarReader;

/// Whether a block is a tar header, by its checksum.
pub fn is_header(block: &[u8; header::BLOCK]) -> bool {
    header::Header::new(block).is_ok()
}
