//! Giving up a build: one flag, and whoever waits for something else is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is called once.
type Hook = Box<dyn Fn() + Send + Sync>;

/// Whether a build was given up; all clones are one.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    given_up: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    all: BTreeMap<u64, Hook>,
}

/// Somebody who is told until this is dropped.
pub struct Hooked<'a> {
    cancellation: &'a Cancellation,
    number: u64,
}

impl Cancellation {
    /// Whether nobody waits for the build any more.
    pub fn is_set(&self) -> bool {
        self.0.given_up.load(Ordering::SeqCst)
    }

    /// Gives the build up and tells everybody who waits.
    pub fn set(&self) {
        if !self.0.given_up.swap(true, Ordering::SeqCst) {
            self.hooks().all.values().for_each(|hook| hook());
        }
    }

    /// Has `hook` called when the build is given up, or at once if it was. It may take locks that are not held by who calls
    /// this, or drops what it answers.
    #[must_use]
    pub fn on_set(&self, hook: impl Fn() + Send + Sync + 'static) -> Hooked<'_> {
        let mut hooks = self.hooks();
        let number = hooks.next;
        hooks.next += 1;
        if self.is_set() {
            hook();
        }
        hooks.all.insert(number, Box::new(hook));
        Hooked {
            cancellation: self,
            number,
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        let hooks = self.0.hooks.lock();
        hooks.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hooked<'_> {
    fn drop(&mut self) {
        self.cancellation.hooks().all.remove(&self.number);
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancellation").field(&self.is_set()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn hooks_are_called_once_while_they_are_there() {
        let cancellation = Cancellation::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let hook = || {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        drop(cancellation.on_set(hook()));
        let kept = cancellation.on_set(hook());
        let other = cancellation.clone();
        other.set();
        other.set();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(cancellation.is_set());
        drop(cancellation.on_set(hook()));
        assert_eq!(calls.load(Ordering::SeqCst), 2, "it is told at once");
        drop(kept);
    }
}
