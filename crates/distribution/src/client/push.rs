//! Push: all layers side by side, then configuration and manifest.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cais_sys::failpoint;
use cais_types::oci::set::Encoded;
use cais_types::oci::{Descriptor, Manifest, Platform, media_type};
use cais_types::{Digest, Error, Reference};
use futures_util::future::try_join_all;

use super::error::RegistryError;
use super::progress::{Event, ProgressSink, Step};
use super::registry::Shared;
use super::repository::{Repository, digest_of};
use super::request::{PushRequest, PushedReference, RawManifest};
use super::store::{Compression, PushStore, PushedImage, PushedLayer, PushedSet};
use super::subject;
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
        let uploads = Uploads {
            target: &target,
            name: name.clone(),
            domain: request.reference.domain(),
            store: store.clone(),
            slots: shared.uploads.clone(),
            progress,
        };
        pushed.push(match set(&store, &reference).await? {
            Some(set) => all(&uploads, &reference, set).await?,
            None => one(&uploads, &reference, image(&store, &reference).await?).await?,
        });
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

async fn set(
    store: &Arc<dyn PushStore>,
    reference: &Reference,
) -> Result<Option<PushedSet>, RegistryError> {
    let (store, reference) = (store.clone(), reference.clone());
    blocking(move || store.set(&reference))
        .await?
        .map_err(RegistryError::Store)
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

/// Sees to it that the layers of an image are in the repository; answers in which form, lowest first.
async fn layers(
    uploads: &Uploads<'_>,
    image: &PushedImage,
) -> Result<Vec<Descriptor>, RegistryError> {
    let originals = original_layers(image);
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
    let config = blob(uploads.target, &image.id, &image.config);
    let (blobs, ()) = tokio::try_join!(sent, config)?;
    let blobs: HashMap<Digest, Descriptor> = blobs.into_iter().collect();
    let layers = image.layers.iter();
    let layers = layers.filter_map(|layer| blobs.get(&layer.diff));
    Ok(layers.cloned().collect())
}

async fn one(
    uploads: &Uploads<'_>,
    reference: &Reference,
    image: PushedImage,
) -> Result<PushedReference, RegistryError> {
    let layers = layers(uploads, &image).await?;
    let manifest = manifest_of(&image, layers)?;
    failpoint::reach("push-manifest");
    name(uploads, reference, &image.id, manifest).await
}

/// Pushes several images, what is attested of them, and the index of them all.
async fn all(
    uploads: &Uploads<'_>,
    reference: &Reference,
    pushed: PushedSet,
) -> Result<PushedReference, RegistryError> {
    let (mut manifests, mut attestations) = (Vec::new(), Vec::new());
    let is_index = pushed.set.is_index();
    for (member, image) in pushed.set.members.iter().zip(&pushed.images) {
        let config = Descriptor::new(media_type::CONFIG, image.id, image.config.len() as u64);
        let layers = layers(uploads, image).await?.into_iter().map(oci_layer);
        let manifest = member.manifest(config, layers.collect(), image.platform.clone());
        if !is_index {
            return name(uploads, reference, &image.id, raw(manifest)).await;
        }
        if let Some(attestation) = member.attestation(reference, &manifest.descriptor) {
            for document in &attestation.blobs {
                let digest = &document.descriptor.digest;
                blob(uploads.target, digest, &document.bytes).await?;
            }
            attestations.push(manifest_by_digest(uploads, attestation.manifest).await?);
        }
        manifests.push(manifest_by_digest(uploads, manifest).await?);
    }
    let index = pushed.set.index([manifests, attestations].concat());
    failpoint::reach("push-manifest");
    let host = Platform::host();
    let main = pushed.images.iter();
    let main = main.min_by_key(|image| host.fit(&image.platform).unwrap_or(u32::MAX));
    let main = main.ok_or_else(|| RegistryError::Settings("a set without images".into()))?;
    name(uploads, reference, &main.id, raw(index)).await
}

async fn manifest_by_digest(
    uploads: &Uploads<'_>,
    document: Encoded,
) -> Result<Descriptor, RegistryError> {
    let descriptor = document.descriptor.clone();
    let manifest = raw(document);
    let digest = manifest.digest.to_string();
    subject::put_manifest(uploads.target, &digest, &manifest).await?;
    Ok(descriptor)
}

fn raw(document: Encoded) -> RawManifest {
    RawManifest {
        digest: document.descriptor.digest,
        bytes: document.bytes.into(),
        media_type: document.descriptor.media_type,
    }
}

/// Gives the repository a manifest by its name, and the image here the digest of it.
async fn name(
    uploads: &Uploads<'_>,
    reference: &Reference,
    id: &Digest,
    manifest: RawManifest,
) -> Result<PushedReference, RegistryError> {
    let tag = reference.tag().unwrap_or("latest");
    subject::put_manifest(uploads.target, tag, &manifest).await?;
    let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
    uploads
        .progress
        .line(format!("{tag}: digest: {digest} size: {size}"));
    uploads.progress.tell(Event::Pushed {
        tag: tag.to_owned(),
        digest,
        size,
    });
    pushed(&uploads.store, id, reference, &digest).await?;
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

/// Sees to it that a small blob is in the repository.
async fn blob(target: &Repository, digest: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    if target.has_blob(digest).await?.is_some() {
        return Ok(());
    }
    put_small(target, digest, Bytes::copy_from_slice(bytes)).await
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

fn oci_layer(layer: Descriptor) -> Descriptor {
    let kind = layer_kind(compression_of(&layer.media_type), true);
    Descriptor::new(kind, layer.digest, layer.size)
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
