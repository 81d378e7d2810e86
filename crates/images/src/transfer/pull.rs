//! The receiving side: which parts of an image are here, checking and unpacking a layer, and the commit of the whole.

use std::io::{self, Read};
use std::sync::Arc;

use cais_types::oci::Descriptor;
use cais_types::{Digest, Reference};

use super::SeenForm;
use crate::addition::NewImage;
use crate::error::{ImageError, TarError};
use crate::layers::unpack::{UnpackedLayer, unpack};
use crate::snapshot::Pin;
use crate::store::{Store, parse_config};

/// Layers that stay, with or without an image, until this is dropped.
pub type Kept = Pin<Arc<Store>>;

/// An image that was fetched, without its layers.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The configuration as it came.
    pub config: Vec<u8>,
    /// The manifest as it came.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// The layers of the manifest, lowest first, each with its diff id.
    pub layers: Vec<(Descriptor, Digest)>,
    /// The names it gets.
    pub references: Vec<Reference>,
    /// Number of the holder that keeps it.
    pub holder: Option<u64>,
}

impl Store {
    /// Whether an image with this configuration is here and none of its layers is known to be damaged.
    pub fn has_image(&self, config: &Digest) -> bool {
        let model = self.read();
        let image = model.images.get(config);
        image.is_some_and(|image| image.chain.iter().all(|chain| model.is_whole(chain)))
            && self.content.has(config)
    }

    /// Keeps a layer that is here and not known to be damaged, and those below it.
    pub fn keep_layer(self: &Arc<Self>, chain: &Digest) -> Option<Kept> {
        let mut model = self.write();
        model.is_whole(chain).then(|| {
            let number = model.add_pin(*chain);
            Pin::new(Arc::clone(self), number)
        })
    }

    /// Keeps a layer with this diff id, on top of any others.
    pub fn keep_diff(self: &Arc<Self>, diff: &Digest) -> Option<Kept> {
        let model = self.read();
        let mut layers = model.layers.iter();
        let found = layers.find(|(_, layer)| layer.diff == *diff && !layer.damaged);
        let chain = found.map(|(chain, _)| *chain)?;
        drop(model);
        self.keep_layer(&chain)
    }

    /// Reads a layer's stream to its end, unpacks it and checks that it is what was announced.
    pub fn unpack_layer(
        &self,
        announced: &Descriptor,
        diff: &Digest,
        stream: &mut (dyn Read + Send),
    ) -> Result<UnpackedLayer, ImageError> {
        let bounded = Bounded {
            stream,
            left: announced.size,
        };
        let layer = unpack(&self.layers, bounded, self.limits)?.finish();
        let layer = layer.map_err(|error| match error {
            ImageError::Tar(TarError::Stream(error)) if error.get_ref().is_some_and(is_longer) => {
                ImageError::Layer(announced.digest.to_string())
            }
            other => other,
        })?;
        if layer.blob_size != announced.size || layer.blob != announced.digest {
            return Err(ImageError::Layer(announced.digest.to_string()));
        }
        if layer.diff != *diff {
            return Err(ImageError::RootFs);
        }
        Ok(layer)
    }

    /// Makes a fetched image visible, durably: all of it or nothing. Answers its id, and whether nothing was new.
    pub fn commit_pulled(
        &self,
        image: Incoming,
        unpacked: Vec<Arc<UnpackedLayer>>,
    ) -> Result<(Digest, bool), ImageError> {
        let config = parse_config(&image.config)?;
        let diffs = config.rootfs.diff_ids.unwrap_or_default();
        if !diffs.iter().eq(image.layers.iter().map(|(_, diff)| diff)) {
            return Err(ImageError::RootFs);
        }
        let repository = image.references.first().map(Reference::name);
        let forms = image.layers.into_iter().filter_map(|(blob, diff)| {
            Some(SeenForm {
                diff,
                blob,
                repository: repository.clone()?,
                reproducible: false,
            })
        });
        let committed = self.commit(NewImage {
            config: image.config,
            layers: unpacked.into_iter().map(|one| (one.diff, one)).collect(),
            references: image.references,
            holder: image.holder,
            manifest: Some((image.manifest, image.media_type)),
            forms: forms.collect(),
            ..NewImage::default()
        })?;
        Ok((committed.image.id, committed.unchanged))
    }
}

/// Fails once more comes than was announced, so that an endless stream has an end.
struct Bounded<'a> {
    stream: &'a mut (dyn Read + Send),
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the stream is longer than announced")]
struct Longer;

fn is_longer(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.is::<Longer>()
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(Longer)),
        }
        Ok(count)
    }
}
