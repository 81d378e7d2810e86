//! What a pull and a push need of the image store: small blocking traits, called from threads made for blocking work and
//! filled by the composition root.

use std::any::Any;
use std::io::{Read, Write};
use std::sync::Arc;

use cais_types::oci::{Descriptor, ImageSet, Manifest, Platform};
use cais_types::{Digest, Reference, Result};

/// A layer that is unpacked and verified and has no name yet. Pulls at the same time that want the same layer share it: each
/// gives it to [`PullStore::commit`], the first makes it visible, the others find it there. Dropped by the last, it is deleted.
pub type UnpackedLayer = Arc<dyn Any + Send + Sync>;

/// Everything of an image but its layers.
pub struct PulledImage {
    /// The configuration as it came; its digest is the image's id.
    pub config: Vec<u8>,
    /// The image's own manifest as it came.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// The layers of the manifest, lowest first, with the diff id of each.
    pub layers: Vec<(Descriptor, Digest)>,
    /// The repository and the names it gets: `name:tag`, and `name@digest` of what the registry answered for it (an index's
    /// digest when it was an index).
    pub references: Vec<Reference>,
}

/// What a pull made of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub id: Digest,
    /// Whether nothing was new: the image was there and had these names.
    pub unchanged: bool,
}

/// Where pulled images go.
pub trait PullStore: Send + Sync {
    /// Tells stores apart: pulls into the same place share the transfers of layers.
    fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether an image with this configuration is whole.
    fn has_image(&self, config: &Digest) -> bool;

    /// The configuration of an image that is whole, so that it need not be fetched.
    fn config(&self, config: &Digest) -> Option<Vec<u8>>;

    /// Whether the layer with this chain id is whole. A layer that is damaged on disk is not, so that it is fetched again.
    fn has_layer(&self, chain: &Digest) -> bool;

    /// Whether a layer with this diff id is whole on top of any other layers, so that it need not be fetched.
    fn has_diff(&self, diff: &Digest) -> bool;

    /// Reads the stream of a layer (plain, gzip or zstd) to its end, unpacks it and checks size and digest of what came and
    /// the digest of what it held.
    ///
    /// # Errors
    /// Those of the stream, of the archive in it, of the disk; a digest or size that is not as announced.
    fn unpack(
        &self,
        layer: &Descriptor,
        diff: &Digest,
        stream: &mut (dyn Read + Send),
    ) -> Result<UnpackedLayer>;

    /// Makes the image visible, durably: all of it or nothing. `unpacked` holds the layers that the store did not have, by diff
    /// id, each once; one that another pull has committed in the meantime is taken from the store.
    ///
    /// # Errors
    /// Those of the disk and the database; a layer that is neither in `unpacked` nor in the store.
    fn commit(&self, image: PulledImage, unpacked: Vec<(Digest, UnpackedLayer)>) -> Result<Pulled>;
}

/// How the bytes of a layer are laid on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    Gzip,
    Zstd,
    None,
}

/// A compressed form of a layer that is known from an earlier pull or push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBlob {
    /// Media type, digest and size of the compressed form.
    pub descriptor: Descriptor,
    /// Repositories (`domain/path`) that had it, the most recent first.
    pub repositories: Vec<String>,
    /// Whether [`PushStore::write_layer`] makes this very form again, byte by byte.
    pub reproducible: bool,
}

/// A layer of an image that is to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedLayer {
    pub chain: Digest,
    pub diff: Digest,
    /// Bytes of the plain tar stream.
    pub tar_size: u64,
    /// Compressed forms that are known, the best first.
    pub known: Vec<KnownBlob>,
}

/// An image that is to be pushed; its layers stay as long as this lives.
pub struct PushedImage {
    /// The image's id, the digest of its configuration.
    pub id: Digest,
    pub platform: Platform,
    pub config: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<PushedLayer>,
    /// The manifest the image came with, and its media type; pushed as it is where every blob of it is at the target.
    pub manifest: Option<(Manifest, Vec<u8>, String)>,
    /// Keeps the layers.
    pub pin: Box<dyn Any + Send + Sync>,
}

/// Several images that are to be pushed under one name.
pub struct PushedSet {
    pub set: ImageSet,
    /// In the order of the set's members.
    pub images: Vec<PushedImage>,
}

/// Where pushed images come from.
pub trait PushStore: Send + Sync {
    /// All that a name stands for, where that is not one image as it is.
    ///
    /// # Errors
    /// Those of the database; an image that is gone.
    fn set(&self, name: &Reference) -> Result<Option<PushedSet>>;

    /// Finds an image by name.
    ///
    /// # Errors
    /// Not found: `An image does not exist locally with the tag: NAME`.
    fn image(&self, name: &Reference) -> Result<PushedImage>;

    /// Names of a repository that have a tag, in order.
    fn tags(&self, repository: &str) -> Vec<Reference>;

    /// Writes a layer, compressed; the same layer and compression always make the same bytes. Compressing is spread over the
    /// cores. Answers digest and size of what was written.
    ///
    /// # Errors
    /// Those of `out`; a layer that is damaged on disk.
    fn write_layer(
        &self,
        layer: &PushedLayer,
        compression: Compression,
        out: &mut (dyn Write + Send),
    ) -> Result<Descriptor>;

    /// Remembers that a repository (`domain/path`) has a compressed form of a layer.
    ///
    /// # Errors
    /// Those of the database.
    fn remember(
        &self,
        diff: &Digest,
        blob: &Descriptor,
        repository: &str,
        reproducible: bool,
    ) -> Result<()>;

    /// Gives a pushed image its `name@digest`.
    ///
    /// # Errors
    /// Those of the database.
    fn pushed(&self, id: &Digest, digest: &Reference) -> Result<()>;
}
