//! What a commit has put in its place and no record names yet: it goes again unless the records are written.

use cais_types::Digest;

use crate::error::ImageError;
use crate::model::LayerRecord;
use crate::store::Store;

/// Layers and documents that have their names and no record yet; dropped before [`Placed::recorded`], they go again. Who makes
/// it holds [`Store::changing`].
pub struct Placed<'a> {
    store: &'a Store,
    pub layers: Vec<PlacedLayer>,
    documents: Vec<Digest>,
}

/// A layer with its name.
pub struct PlacedLayer {
    pub chain: Digest,
    pub record: LayerRecord,
    /// Whether there was no record of it before; a layer that took the place of a damaged one stays in any case.
    pub fresh: bool,
}

impl<'a> Placed<'a> {
    /// Nothing yet.
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            layers: Vec::new(),
            documents: Vec::new(),
        }
    }

    /// Keeps a document of the image.
    pub fn document(&mut self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let (digest, new) = self.store.content.put(bytes)?;
        self.documents.extend(new.then_some(digest));
        Ok(digest)
    }

    /// Says that the records name all of it; answers the layers.
    pub fn recorded(&mut self) -> Vec<PlacedLayer> {
        self.documents.clear();
        std::mem::take(&mut self.layers)
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        for PlacedLayer { chain, .. } in self.layers.iter().filter(|one| one.fresh) {
            if let Err(error) = self.store.layers.remove(&chain.hex()) {
                tracing::warn!(%error, %chain, "a layer without an image could not be deleted");
            }
        }
        for digest in &self.documents {
            if let Err(error) = self.store.content.remove(digest) {
                tracing::warn!(%error, %digest, "a document without an image could not be deleted");
            }
        }
    }
}
