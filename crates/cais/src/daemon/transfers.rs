//! The image store as the registry client sees it.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use cais_distribution::client::store::{
    Compression, KnownBlob, PullStore, Pulled, PulledImage, PushStore, PushedImage, PushedLayer,
    PushedSet, UnpackedLayer,
};
use cais_images::{
    Form, Incoming, Kept, Outgoing, OutgoingLayer, PushCompression, SeenForm, Store,
};
use cais_types::oci::{Descriptor, Document, Platform};
use cais_types::{Digest, Error, Reference, Result};

/// One pull's view of the store: layers it was told to be there stay until it has ended.
pub struct PullInto {
    store: Arc<Store>,
    /// Who keeps the images, which get no names then.
    holder: Option<u64>,
    kept: Mutex<Vec<Kept>>,
}

impl PullInto {
    /// A view for one pull.
    pub fn new(store: Arc<Store>, holder: Option<u64>) -> Self {
        Self {
            store,
            holder,
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

    fn config(&self, config: &Digest) -> Option<Vec<u8>> {
        let whole = self.store.has_image(config);
        whole.then(|| self.store.config_bytes(config).ok())?
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
            references: match self.holder {
                Some(_) => Vec::new(),
                None => image.references,
            },
            holder: self.holder,
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
pub struct PushFrom {
    pub store: Arc<Store>,
    /// The only one that is sent.
    pub platform: Option<Platform>,
}

impl PushStore for PushFrom {
    fn set(&self, name: &Reference) -> Result<Option<PushedSet>> {
        if self.platform.is_some() {
            return Ok(None);
        }
        let set = self.store.outgoing_set(name)?;
        Ok(set.map(|(set, images)| PushedSet {
            set,
            images: images.into_iter().map(image).collect(),
        }))
    }

    fn image(&self, name: &Reference) -> Result<PushedImage> {
        let outgoing = self.store.outgoing(name, self.platform.as_ref())?;
        Ok(image(outgoing))
    }

    fn tags(&self, repository: &str) -> Vec<Reference> {
        self.store.tags_of(repository)
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
        let store = &self.store;
        Ok(store.write_layer(&layer.chain, &layer.diff, compression, out)?)
    }

    fn remember(
        &self,
        diff: &Digest,
        blob: &Descriptor,
        repository: &str,
        reproducible: bool,
    ) -> Result<()> {
        Ok(self.store.remember_form(&SeenForm {
            diff: *diff,
            blob: blob.clone(),
            repository: repository.to_owned(),
            reproducible,
        })?)
    }

    fn pushed(&self, id: &Digest, digest: &Reference) -> Result<()> {
        // One of several platforms has no names of its own.
        if self.platform.is_some() && self.store.is_member(id) {
            return Ok(());
        }
        Ok(self.store.pushed(id, digest)?)
    }
}

fn image(image: Outgoing) -> PushedImage {
    let manifest = image.manifest.and_then(|(bytes, media_type)| {
        match Document::parse(&bytes, Some(&media_type)) {
            Ok(Document::Manifest(manifest)) => Some((*manifest, bytes, media_type)),
            _ => None,
        }
    });
    PushedImage {
        id: image.id,
        platform: image.platform,
        config: image.config,
        layers: image.layers.into_iter().map(layer).collect(),
        manifest,
        pin: image.pin,
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
