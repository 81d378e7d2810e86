//! A /24 subnet that no other test on this machine uses while it is held.

use std::fs::{self, File};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A reserved subnet, `10.213.<number>.0/24`; the reservation ends when it is dropped.
#[derive(Debug)]
pub struct Subnet {
    number: u8,
    _lock: File,
}

impl Subnet {
    /// Reserves a free one by a lock file that all test processes share.
    pub fn reserve() -> Result<Self> {
        let directory = std::env::temp_dir().join("cais-testkit");
        fs::create_dir_all(&directory)?;
        for number in 1..=250 {
            let lock =
                File::create(directory.join(format!("subnet-{number}"))).context("subnet lock")?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("no free test subnet")
    }

    /// The number that names everything that belongs to this subnet.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The gateway with its prefix, as `--bip` wants it.
    pub fn gateway(&self) -> String {
        format!("10.213.{}.1/24", self.number)
    }
}
