//! SHA-256 of a stream, on another thread once the stream is long: who reads files and who hashes them then each have a core.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use cais_types::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes handed over at a time.
const PIECE: usize = 256 * 1024;
/// Pieces that may wait.
const WAITING: usize = 4;
/// Bytes that are hashed on the spot; a thread for less costs more than it brings.
const ON_THE_SPOT: usize = 1024 * 1024;

/// A digest in the making.
pub struct SideHash {
    here: Sha256,
    taken: usize,
    side: Option<Side>,
}

struct Side {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Sha256>,
}

impl SideHash {
    pub fn new() -> Self {
        Self {
            here: Sha256::new(),
            taken: 0,
            side: None,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        if self.side.is_none() && self.taken >= ON_THE_SPOT {
            self.side = Side::start(&self.here);
            // Without a thread it goes on here.
            self.taken = 0;
        }
        match &mut self.side {
            Some(side) => side.update(bytes),
            None => {
                self.here.update(bytes);
                self.taken += bytes.len();
            }
        }
    }

    pub fn finish(self) -> Digest {
        let hash = match self.side {
            Some(side) => side.finish(),
            None => self.here,
        };
        Digest::from_bytes(hash.finalize().into())
    }
}

impl Side {
    fn start(so_far: &Sha256) -> Option<Self> {
        let (full, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let (give_back, empty) = channel();
        let mut hash = so_far.clone();
        let thread = std::thread::Builder::new().name("sha256".to_owned());
        let thread = thread.spawn(move || {
            for mut piece in pieces {
                hash.update(&piece);
                piece.clear();
                // Whoever fills pieces may be at its end.
                let _ = give_back.send(piece);
            }
            hash
        });
        Some(Self {
            piece: Vec::with_capacity(PIECE),
            full,
            empty,
            thread: thread.ok()?,
        })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE {
                self.pass_on();
            }
        }
    }

    fn pass_on(&mut self) {
        let next = self.empty.try_recv();
        let next = next.unwrap_or_else(|_| Vec::with_capacity(PIECE));
        let piece = std::mem::replace(&mut self.piece, next);
        // The thread ends after this end only, unless it panics, which is passed on in the end.
        let _ = self.full.send(piece);
    }

    fn finish(mut self) -> Sha256 {
        self.pass_on();
        drop(self.full);
        match self.thread.join() {
            Ok(hash) => hash,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_of_all_pieces_in_order() {
        let bytes: Vec<u8> = (0..5 * ON_THE_SPOT + 77)
            .map(|number| (number * 31 % 251) as u8)
            .collect();
        for step in [1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, bytes.len()] {
            for end in [0, 1, ON_THE_SPOT, ON_THE_SPOT + 1, bytes.len()] {
                let mut hash = SideHash::new();
                for part in bytes[..end].chunks(step) {
                    hash.update(part);
                }
                assert_eq!(hash.finish(), Digest::of(&bytes[..end]), "{step} {end}");
            }
        }
    }
}
