//! Images that something needs although no container and no name says so: those of a build that goes on.

use std::collections::HashSet;
use std::ops::Deref;

use cais_types::Digest;

use crate::error::ImageError;
use crate::store::Store;

/// Keeps images until it is dropped, see [`Store::holder`].
pub struct Holder<S: Deref<Target = Store>> {
    store: S,
    number: u64,
}

impl Store {
    /// Somebody who needs images: none that it holds is removed, whoever asks.
    pub fn holder<S: Deref<Target = Self>>(store: S) -> Holder<S> {
        let mut model = store.write();
        let number = model.held.keys().max().map_or(0, |last| last + 1);
        model.held.insert(number, HashSet::new());
        drop(model);
        Holder { store, number }
    }

    /// Whether a build that goes on stands on an image or has made it.
    pub fn is_held(&self, image: &Digest) -> bool {
        let model = self.read();
        model.held.values().any(|held| held.contains(image))
    }
}

impl<S: Deref<Target = Store>> Holder<S> {
    /// For [`crate::CommitRequest::holder`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Keeps an image.
    ///
    /// # Errors
    /// No such image: it is gone already.
    pub fn hold(&self, image: &Digest) -> Result<(), ImageError> {
        let held = |held: &HashSet<Digest>| held.contains(image);
        if self.store.read().held.get(&self.number).is_some_and(held) {
            return Ok(());
        }
        // A removal looks for holders and deletes in one change.
        let _changing = self.store.changing();
        let mut model = self.store.write();
        if !model.images.contains_key(image) {
            return Err(ImageError::NoSuchImage(image.to_string()));
        }
        model.held.entry(self.number).or_default().insert(*image);
        Ok(())
    }
}

impl<S: Deref<Target = Store>> Drop for Holder<S> {
    fn drop(&mut self) {
        self.store.write().held.remove(&self.number);
    }
}
