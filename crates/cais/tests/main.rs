//! End-to-end tests: our command line and the real docker on daemons of ours, checked with the kernel's eyes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod cves;
mod errors;
mod kills;
mod lifecycle;
mod networks;
mod probe;
mod security;
mod storage;
mod streams;
mod versions;

use cais_testkit::{BaseImage, TestDaemon};

/// The binary under test.
const CAIS: &str = env!("CARGO_BIN_EXE_cais");

/// A daemon that has busybox.
fn daemon() -> TestDaemon {
    TestDaemon::with_images(CAIS, &[BaseImage::Busybox]).expect("a daemon with busybox")
}
