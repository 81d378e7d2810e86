//! The image store as the registry client sees it.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use cais_distribution::client::store::{
    Compression, KnownBlob, PullStore, Pulled, PulledImage, PushStore, PushedImage, PushedLayer,
    UnpackedLayer,
};
use cais_images::{Form, Incoming, Kept, OutgoingLayer, PushCompression, SeenForm, Store};
use cais_types::oci::{Descriptor, Document};
use cais_types::{Digest, Error, Reference, Result};

/// One pull's view of the store: layers it was told to be there stay until it has ended.
pub struct PullInto {
    store: Arc<Store>,
    kept: Mutex<Vec<Kept>>,
}

impl PullInto {
    /// A view for one pull.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    fn keep(&self, layer: Option<Kept>) -> bool {
        let has = layer.is_some();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(layer);
        has
    }
}

impl PullStore for PullInto {
    fn place(&self) -> usize {
        Arc::as_ptr(&self.store).addr()
    }

    fn has_image(&self, config: &Digest) -> bool {
        self.store.has_image(config)
    }

    fn has_layer(&self, chain: &Digest) -> bool {
        self.keep(self.store.keep_layer(chain))
    }

    fn has_diff(&self, diff: &Digest) -> bool {
        self.keep(self.store.keep_diff(diff))
    }

    fn unpack(
        &self,
        layer: &Descriptor,
        diff: &Digest,
        stream: &mut (dyn Read + Send),
    ) -> Result<UnpackedLayer> {
        Ok(Arc::new(self.store.unpack_layer(layer, diff, stream)?))
    }

    fn commit(&self, image: PulledImage, unpacked: Vec<(Digest, UnpackedLayer)>) -> Result<Pulled> {
        let incoming = Incoming {
            config: image.config,
            manifest: image.manifest,
            media_type: image.media_type,
            layers: image.layers,
            references: image.references,
        };
        let ours = |(_, layer): (Digest, UnpackedLayer)| {
            let foreign = |_| Error::internal("a layer of another store");
            layer
                .downcast::<cais_images::UnpackedLayer>()
                .map_err(foreign)
        };
        let unpacked = unpacked.into_iter().map(ours).collect::<Result<_>>()?;
        let (id, unchanged) = self.store.commit_pulled(incoming, unpacked)?;
        Ok(Pulled { id, unchanged })
    }
}

/// The store as pushes see it.
pub struct PushFrom(pub Arc<Store>);

impl PushStore for PushFrom {
    fn image(&self, name: &Reference) -> Result<PushedImage> {
        let image = self.0.outgoing(name)?;
        let manifest = image.manifest.and_then(|(bytes, media_type)| {
            match Document::parse(&bytes, Some(&media_type)) {
                Ok(Document::Manifest(manifest)) => Some((*manifest, bytes, media_type)),
                _ => None,
            }
        });
        Ok(PushedImage {
            id: image.id,
            config: image.config,
            layers: image.layers.into_iter().map(layer).collect(),
            manifest,
            pin: image.pin,
        })
    }

    fn tags(&self, repository: &str) -> Vec<Reference> {
        self.0.tags_of(repository)
    }

    fn write_layer(
        &self,
        layer: &PushedLayer,
        compression: Compression,
        out: &mut (dyn Write + Send),
    ) -> Result<Descriptor> {
        let compression = match compression {
            Compression::Gzip => PushCompression::Gzip,
            Compression::Zstd => PushCompression::Zstd,
            Compression::None => PushCompression::None,
        };
        let store = &self.0;
        Ok(store.write_layer(&layer.chain, &layer.diff, compression, out)?)
    }

    fn remember(
        &self,
        diff: &Digest,
        blob: &Descriptor,
        repository: &str,
        reproducible: bool,
    ) -> Result<()> {
        Ok(self.0.remember_form(&SeenForm {
            diff: *diff,
            blob: blob.clone(),
            repository: repository.to_owned(),
            reproducible,
        })?)
    }

    fn pushed(&self, id: &Digest, digest: &Reference) -> Result<()> {
        Ok(self.0.pushed(id, digest)?)
    }
}

fn layer(layer: OutgoingLayer) -> PushedLayer {
    let known = |form: Form| KnownBlob {
        descriptor: Descriptor::new(form.media_type.clone(), form.digest, form.size),
        reproducible: form.reproducible(),
        repositories: form.repositories,
    };
    PushedLayer {
        chain: layer.chain,
        diff: layer.diff,
        tar_size: layer.tar_size,
        known: layer.forms.into_iter().map(known).collect(),
    }
}
