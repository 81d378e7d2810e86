//! The image store against real file systems and real overlay mounts; needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archives;
mod check;
mod commit;
mod crash;
mod hostile;
mod hostile_more;
mod kit;
mod naming;
mod power;
mod snapshots;
mod transfer;
mod usage;
