//! The process that owns one container: one thread that starts init, moves its streams, runs execs, and writes the exit
//! record before it tells anyone. It survives the engine and must be cheap: a few hundred KiB of private memory.
//!
//! When a monitor itself is killed nobody can learn init's exit code any more. The engine then ends the container through
//! its cgroup and pidfd and records 137, as Docker does when a shim dies.
//!
//! [`json_file`] writes a container's log, in the monitor; [`log_reader`] reads it, in the engine.

mod client;
mod container;
mod control;
mod detach;
mod entry;
pub mod exit;
pub mod json_file;
pub mod launch;
pub mod log_reader;
pub mod protocol;
mod requests;
pub mod runner;
mod session;
mod supervisor;
pub mod wire;

pub use client::frame_header;
pub use entry::serve;
pub use launch::{Launched, launch};

/// Runs this process as a monitor, started by [`launch()`]; answers its exit status: 1 when no container was started.
pub fn main() -> i32 {
    serve(container::Container::prepare)
}

#[cfg(test)]
mod tests;
