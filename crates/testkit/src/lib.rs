//! What tests share: base images made from distribution packages, and daemons that own their data root, socket, subnet,
//! firewall table and cgroup, so that tests run side by side and leave nothing behind.

pub mod contents;
mod daemon;
mod differences;
pub mod http;
mod image;
mod subnet;
mod trixie;
mod world;

pub use daemon::TestDaemon;
pub use differences::Differences;
pub use image::{BaseImage, base_image};
pub use subnet::Subnet;
pub use trixie::from_trixie;
pub use world::{Space, World};

use std::time::{Duration, Instant};

/// Waits until a condition holds, looking again every few milliseconds; fails the test after a minute.
///
/// # Panics
/// When the condition does not hold in time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited a minute for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
