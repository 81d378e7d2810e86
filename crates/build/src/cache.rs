//! Keys of steps: what a step's image depends on, as one digest. Only keys of our own steps are ever looked up; the
//! configuration of an image that was loaded or pulled never makes a hit (CVE-2024-24557).

use cais_types::Digest;
use sha2::{Digest as _, Sha256};

/// Gathers what a step depends on.
pub struct Key(Sha256);

impl Key {
    /// A key of a step on top of an image.
    pub fn on(parent: Option<&Digest>) -> Self {
        let parent = parent.map_or("scratch".to_owned(), Digest::to_string);
        Self(Sha256::new()).with("v1").with(&parent)
    }

    /// Adds one part; parts never run into each other.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The key.
    pub fn finish(self) -> String {
        Digest::from_bytes(self.0.finalize().into()).hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Key::on(None).with("ab").with("c").finish();
        let other = Key::on(None).with("a").with("bc").finish();
        assert_ne!(one, other);
        assert_eq!(one, Key::on(None).with("ab").with("c").finish());
    }
}
