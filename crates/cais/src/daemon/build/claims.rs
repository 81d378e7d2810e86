//! Which steps are being made: a build that comes to one that another build makes waits for it instead of making it as well.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cais_build::messages::canceled;
use cais_types::Result;

/// Keys of steps that are being made.
static MAKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static ENDED: Condvar = Condvar::new();

/// How often a build that waits looks whether it was given up.
const LOOK: Duration = Duration::from_millis(50);

/// A step that one build makes until this is dropped.
pub struct Claim(String);

impl Drop for Claim {
    fn drop(&mut self) {
        let mut making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        making.remove(&self.0);
        ENDED.notify_all();
    }
}

/// Claims a step; `None` if another build makes it.
pub fn try_claim(key: &str) -> Option<Claim> {
    let mut making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    making.insert(key.to_owned()).then(|| Claim(key.to_owned()))
}

/// Waits until nobody makes a step.
///
/// # Errors
/// Canceled: the build was given up meanwhile.
pub fn wait(key: &str, given_up: &dyn Fn() -> bool) -> Result<()> {
    let mut making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    while making.contains(key) {
        if given_up() {
            return Err(canceled());
        }
        (making, _) = ENDED
            .wait_timeout(making, LOOK)
            .unwrap_or_else(PoisonError::into_inner);
    }
    Ok(())
}
