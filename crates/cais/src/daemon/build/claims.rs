//! Which steps are being made: a build that comes to one that another build makes waits for it instead of making it as well.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cais_build::cancel::Cancellation;
use cais_build::messages::canceled;
use cais_types::Result;

/// Keys of steps that are being made.
static MAKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static ENDED: Condvar = Condvar::new();

/// A step that one build makes until this is dropped.
pub struct Claim(String);

impl Drop for Claim {
    fn drop(&mut self) {
        making().remove(&self.0);
        ENDED.notify_all();
    }
}

/// Claims a step; `None` if another build makes it.
pub fn try_claim(key: &str) -> Option<Claim> {
    let new = making().insert(key.to_owned());
    new.then(|| Claim(key.to_owned()))
}

/// Waits until nobody makes a step.
///
/// # Errors
/// Canceled: the build was given up meanwhile.
pub fn wait(key: &str, given_up: &Cancellation) -> Result<()> {
    let _told = given_up.on_set(|| {
        // Who waits has looked at the flag before, or is told now.
        drop(making());
        ENDED.notify_all();
    });
    let mut making = making();
    while making.contains(key) {
        if given_up.is_set() {
            return Err(canceled());
        }
        making = ENDED.wait(making).unwrap_or_else(PoisonError::into_inner);
    }
    Ok(())
}

fn making() -> MutexGuard<'static, BTreeSet<String>> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}
