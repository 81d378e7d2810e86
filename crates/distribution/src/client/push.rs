//! Push: all layers side by side, then configuration and manifest.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cais_sys::failpoint;
use cais_types::oci::{Descriptor, Manifest, media_type};
use cais_types::{Digest, Error, Reference};
use futures_util::future::try_join_all;

use super::error::RegistryError;
use super::progress::{Event, ProgressSink, Step};
use super::registry::Shared;
use super::repository::{Repository, digest_of};
use super::request::{PushRequest, PushedReference, RawManifest};
use super::store::{Compression, PushStore, PushedImage, PushedLayer};
use super::transfers::blocking;
use super::upload::{Uploads, compression_of};

/// Pushes one image or all tags of a repository.
pub async fn push(
    shared: &Shared,
    request: &PushRequest,
    store: Arc<dyn PushStore>,
    progress: &ProgressSink,
) -> Result<Vec<PushedReference>, RegistryError> {
    let name = request.reference.name();
    progress.line(format!("The push refers to repository [{name}]"));
    let references = references(request, &store).await?;
    let target = shared
        .push_target(&request.reference, request.auth.as_ref())
        .await?;
    let mut pushed = Vec::new();
    for reference in references {
        let image = image(&store, &reference).await?;
        let uploads = Uploads {
            target: &target,
            name: name.clone(),
            domain: request.reference.domain(),
            store: store.clone(),
            slots: shared.uploads.clone(),
            progress,
        };
        pushed.push(one(&uploads, &reference, image).await?);
    }
    Ok(pushed)
}

async fn references(
    request: &PushRequest,
    store: &Arc<dyn PushStore>,
) -> Result<Vec<Reference>, RegistryError> {
    let asked = &request.reference;
    if asked.digest().is_some() {
        let error = Error::invalid("cannot push a digest reference");
        return Err(RegistryError::Store(error));
    }
    if !request.all_tags {
        return Ok(vec![asked.clone().with_default_tag()]);
    }
    let (store, repository) = (store.clone(), asked.name());
    let tags = blocking(move || store.tags(&repository)).await?;
    if tags.is_empty() {
        return Err(RegistryError::Store(Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            asked.familiar_name()
        ))));
    }
    Ok(tags)
}

async fn image(
    store: &Arc<dyn PushStore>,
    reference: &Reference,
) -> Result<PushedImage, RegistryError> {
    let (store, reference) = (store.clone(), reference.clone());
    blocking(move || store.image(&reference))
        .await?
        .map_err(RegistryError::Store)
}

async fn one(
    uploads: &Uploads<'_>,
    reference: &Reference,
    image: PushedImage,
) -> Result<PushedReference, RegistryError> {
    let originals = original_layers(&image);
    let mut unique: Vec<(&PushedLayer, Option<&Descriptor>)> = Vec::new();
    for (place, layer) in image.layers.iter().enumerate() {
        if unique.iter().all(|(other, _)| other.diff != layer.diff) {
            unique.push((layer, originals.and_then(|all| all.get(place))));
            uploads.progress.step(&layer.diff.short(), Step::Preparing);
        }
    }
    let sent = try_join_all(unique.into_iter().map(|(layer, original)| async move {
        let blob = uploads.layer(layer, original).await?;
        Ok::<_, RegistryError>((layer.diff, blob))
    }));
    let (blobs, ()) = tokio::try_join!(sent, config(uploads.target, &image))?;
    let blobs: HashMap<Digest, Descriptor> = blobs.into_iter().collect();
    let layers = image
        .layers
        .iter()
        .filter_map(|layer| blobs.get(&layer.diff));
    let layers: Vec<Descriptor> = layers.cloned().collect();
    let manifest = manifest_of(&image, layers)?;
    let tag = reference.tag().unwrap_or("latest");
    failpoint::reach("push-manifest");
    uploads.target.put_manifest(tag, &manifest).await?;
    let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
    uploads
        .progress
        .line(format!("{tag}: digest: {digest} size: {size}"));
    uploads.progress.tell(Event::Pushed {
        tag: tag.to_owned(),
        digest,
        size,
    });
    pushed(&uploads.store, &image.id, reference, &digest).await?;
    Ok(PushedReference {
        reference: reference.clone(),
        digest,
        size,
    })
}

async fn pushed(
    store: &Arc<dyn PushStore>,
    id: &Digest,
    reference: &Reference,
    digest: &Digest,
) -> Result<(), RegistryError> {
    let by_digest = reference
        .with_digest(&digest.to_string())
        .map_err(|error| RegistryError::Settings(error.to_string()))?;
    let (store, id) = (store.clone(), *id);
    blocking(move || store.pushed(&id, &by_digest))
        .await?
        .map_err(RegistryError::Store)
}

/// The layers of the manifest the image came with, when it is one for this image.
fn original_layers(image: &PushedImage) -> Option<&[Descriptor]> {
    let (manifest, _, _) = image.manifest.as_ref()?;
    let fits = manifest.config.digest == image.id && manifest.layers.len() == image.layers.len();
    fits.then_some(manifest.layers.as_slice())
}

/// Sees to it that the configuration is in the repository.
async fn config(target: &Repository, image: &PushedImage) -> Result<(), RegistryError> {
    if target.has_blob(&image.id).await?.is_some() {
        return Ok(());
    }
    put_small(target, &image.id, image.config.clone().into()).await
}

/// Uploads a blob that is in memory.
async fn put_small(
    target: &Repository,
    digest: &Digest,
    bytes: Bytes,
) -> Result<(), RegistryError> {
    let mut patience = target.session.patience();
    loop {
        let upload = target.start_upload().await?;
        let Err(error) = target.finish(upload, digest, bytes.clone()).await else {
            return Ok(());
        };
        let Some(wait) = patience.after(&error) else {
            return Err(error);
        };
        tokio::time::sleep(wait).await;
    }
}

/// The manifest the image came with where every blob of it is there, so that its digest stays; else one of its own, of the
/// same family.
fn manifest_of(image: &PushedImage, layers: Vec<Descriptor>) -> Result<RawManifest, RegistryError> {
    if let (Some(original), Some((_, bytes, media_type))) =
        (original_layers(image), &image.manifest)
    {
        let same = original
            .iter()
            .zip(&layers)
            .all(|(a, b)| a.digest == b.digest);
        if same && original.len() == layers.len() {
            return Ok(RawManifest {
                digest: digest_of(bytes),
                bytes: bytes.clone().into(),
                media_type: media_type.clone(),
            });
        }
    }
    let is_oci = image
        .manifest
        .as_ref()
        .is_some_and(|(_, _, kind)| kind == media_type::MANIFEST);
    let (kind, config_kind) = match is_oci {
        true => (media_type::MANIFEST, media_type::CONFIG),
        false => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    };
    let layers = layers.into_iter().map(|layer| {
        let kind = layer_kind(compression_of(&layer.media_type), is_oci);
        Descriptor::new(kind, layer.digest, layer.size)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(kind.to_owned()),
        artifact_type: None,
        config: Descriptor::new(config_kind, image.id, image.config.len() as u64),
        layers: layers.collect(),
        subject: None,
        annotations: None,
    };
    let bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| RegistryError::Settings(error.to_string()))?;
    Ok(RawManifest {
        digest: digest_of(&bytes),
        bytes: bytes.into(),
        media_type: kind.to_owned(),
    })
}

fn layer_kind(compression: Compression, is_oci: bool) -> &'static str {
    match (compression, is_oci) {
        (Compression::Gzip, true) => media_type::LAYER_GZIP,
        (Compression::Zstd, true) => media_type::LAYER_ZSTD,
        (Compression::None, true) => media_type::LAYER,
        (Compression::Gzip, false) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd, false) => media_type::DOCKER_LAYER_ZSTD,
        (Compression::None, false) => media_type::DOCKER_LAYER,
    }
}
