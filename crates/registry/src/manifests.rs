//! Manifests and indexes: get, put with one or many tags, delete by tag or digest (end-3, end-7, end-9).

use std::sync::Arc;

use bytes::Bytes;
use cais_types::Digest;
use cais_types::oci::{Descriptor, Document, media_type};
use http::{StatusCode, header};

use super::blobs::not_modified;
use super::call::Call;
use super::error::{ErrorCode, RegistryError};
use super::name::{ManifestName, RepositoryName, Tag};
use super::registry::Registry;
use super::reply::{self, Body, DOCKER_CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG, Result};
use super::store::{Change, ManifestRecord, Need, NewManifest, now};

/// The specification wants registries to take manifests of 4 MiB at least; nobody needs more.
pub const MAX_MANIFEST: usize = 4 << 20;
/// Tags that one push may make.
const MAX_TAGS: usize = 100;

/// A manifest that is there.
pub struct Found {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
}

/// Looks a manifest up, and keeps it from collection for a while.
pub fn find(registry: &Registry, name: &RepositoryName, wanted: &ManifestName) -> Option<Found> {
    registry.store.read(|index| {
        let repository = index.repository(name)?;
        let digest = match wanted {
            ManifestName::Digest(digest) => *digest,
            ManifestName::Tag(tag) => repository.tags.get(tag)?.digest,
        };
        let manifest = repository.manifests.get(&digest)?;
        manifest.touched.touch();
        Some(Found {
            digest,
            media_type: manifest.record.media_type.clone(),
            size: manifest.record.size,
        })
    })
}

/// GET and HEAD.
///
/// # Errors
/// `MANIFEST_UNKNOWN`, also when the client takes no document of this type.
pub async fn get(
    registry: &Arc<Registry>,
    call: Call,
    name: RepositoryName,
    wanted: ManifestName,
) -> Result {
    registry.proxy.refresh(registry, &name, &wanted).await?;
    let Some(found) = find(registry, &name, &wanted) else {
        return Err(unknown(&wanted));
    };
    if !accepted(&call, &found.media_type) {
        return Err(RegistryError::new(
            ErrorCode::ManifestUnknown,
            format!(
                "{} found, but accept header does not support it",
                found.media_type
            ),
        ));
    }
    let builder = reply::status(StatusCode::OK)
        .header(header::CONTENT_TYPE, &found.media_type)
        .header(header::ETAG, format!("\"{}\"", found.digest))
        .header(DOCKER_CONTENT_DIGEST, found.digest.to_string());
    if not_modified(&call.headers, &found.digest) {
        return reply::finish(builder.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    if call.method == http::Method::HEAD {
        let builder = builder.header(header::CONTENT_LENGTH, found.size);
        return reply::finish(builder, Body::empty());
    }
    let bytes = read(registry, found.digest, found.size).await?;
    reply::finish(builder, Body::Full(Some(bytes)))
}

/// Reads a manifest's bytes and checks them: they are few, and a damaged one must not go out.
///
/// # Errors
/// `MANIFEST_UNKNOWN` when it is gone or damaged.
pub async fn read(registry: &Arc<Registry>, digest: Digest, size: u64) -> Result<Bytes> {
    let registry = Arc::clone(registry);
    let read = tokio::task::spawn_blocking(move || {
        let file = registry.store.open_blob(&digest)?;
        super::file_body::read_part(&file, 0, size)
    });
    match read.await? {
        Ok(bytes) if digest_of(&bytes) == digest => Ok(bytes),
        Ok(_) => {
            tracing::error!(%digest, "manifest is damaged on disk");
            Err(unknown(&ManifestName::Digest(digest)))
        }
        Err(error) => {
            tracing::error!(%digest, %error, "manifest cannot be read");
            Err(unknown(&ManifestName::Digest(digest)))
        }
    }
}

fn unknown(wanted: &ManifestName) -> RegistryError {
    RegistryError::manifest_unknown(&match wanted {
        ManifestName::Tag(tag) => format!("unknown tag={tag}"),
        ManifestName::Digest(digest) => format!("unknown digest={digest}"),
    })
}

/// Whether the client takes this type. Docker's own single manifests are what clients without the header expect.
fn accepted(call: &Call, stored: &str) -> bool {
    let mut some = false;
    for value in call.headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for part in value.split(',') {
            let kind = part.split(';').next().unwrap_or("").trim();
            if kind == stored || kind == "*/*" || kind == "application/*" {
                return true;
            }
            some |= !kind.is_empty();
        }
    }
    !some || stored == media_type::DOCKER_MANIFEST
}

/// PUT.
///
/// # Errors
/// 413; `MANIFEST_INVALID` for what is no manifest or contradicts its type; `DIGEST_INVALID`; `MANIFEST_BLOB_UNKNOWN`.
pub async fn put(
    registry: &Arc<Registry>,
    mut call: Call,
    name: RepositoryName,
    wanted: ManifestName,
) -> Result {
    let tags = wanted_tags(&call, &wanted)?;
    let bytes = call.read_body(MAX_MANIFEST, registry.limits.idle).await?;
    let announced = call.header(&header::CONTENT_TYPE);
    let received = Received::parse(bytes, announced)?;
    if let ManifestName::Digest(digest) = wanted
        && digest != received.digest
    {
        return Err(RegistryError::new(
            ErrorCode::DigestInvalid,
            "provided digest did not match uploaded content",
        ));
    }
    let mut builder = reply::status(StatusCode::CREATED)
        .header(
            header::LOCATION,
            format!("/v2/{name}/manifests/{}", received.digest),
        )
        .header(DOCKER_CONTENT_DIGEST, received.digest.to_string());
    if let Some(subject) = received.record.subject {
        builder = builder.header(OCI_SUBJECT, subject.to_string());
    }
    if matches!(wanted, ManifestName::Digest(_)) {
        for tag in &tags {
            builder = builder.header(OCI_TAG, tag.as_str());
        }
    }
    keep(registry, name, received, tags, true).await?;
    reply::finish(builder, Body::empty())
}

fn wanted_tags(call: &Call, wanted: &ManifestName) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    if let ManifestName::Tag(tag) = wanted {
        tags.push(tag.clone());
    }
    for tag in call.query.all("tag") {
        tags.push(Tag::parse(tag)?);
    }
    if tags.len() > MAX_TAGS {
        return Err(
            RegistryError::manifest_invalid(format!("more than {MAX_TAGS} tags"))
                .with_status(StatusCode::URI_TOO_LONG),
        );
    }
    Ok(tags)
}

/// A manifest that came in and is one.
pub struct Received {
    pub bytes: Bytes,
    pub digest: Digest,
    pub record: ManifestRecord,
    needs: Vec<Need>,
}

impl Received {
    /// Reads a manifest and what it needs.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`.
    pub fn parse(bytes: Bytes, announced: Option<&str>) -> Result<Self> {
        let document = Document::parse(&bytes, announced)
            .map_err(|error| RegistryError::manifest_invalid(error.to_string()))?;
        let (own, needs, artifact_type) = outline(&document);
        let announced = announced
            .and_then(|text| text.split(';').next())
            .map(str::trim)
            .filter(|text| media_type::is_index(text) || media_type::is_manifest(text));
        let fallback = match document {
            Document::Manifest(_) => media_type::MANIFEST,
            Document::Index(_) => media_type::INDEX,
        };
        let media_type = own.or(announced.map(str::to_owned));
        let record = ManifestRecord {
            media_type: media_type.unwrap_or_else(|| fallback.to_owned()),
            size: bytes.len() as u64,
            pushed: now(),
            subject: document.subject().map(|subject| subject.digest),
            artifact_type,
            references: needs.iter().map(|need| need.digest).collect(),
        };
        Ok(Self {
            digest: digest_of(&bytes),
            bytes,
            record,
            needs,
        })
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut raw = [0; 32];
    raw.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest::from_bytes(raw)
}

/// Its own media type, what it needs, and its artifact type (image-spec, "Guidelines for artifact usage").
fn outline(document: &Document) -> (Option<String>, Vec<Need>, Option<String>) {
    match document {
        Document::Manifest(manifest) => {
            let layers = manifest.layers.iter().filter(|layer| !is_foreign(layer));
            let blobs = std::iter::once(&manifest.config).chain(layers);
            let artifact = manifest
                .artifact_type
                .clone()
                .filter(|text| !text.is_empty());
            (
                manifest.media_type.clone(),
                needs(blobs, false),
                artifact.or_else(|| Some(manifest.config.media_type.clone())),
            )
        }
        Document::Index(index) => (
            index.media_type.clone(),
            needs(index.manifests.iter(), true),
            index.artifact_type.clone(),
        ),
    }
}

/// Each content once; an index may list the same manifest for several platforms.
fn needs<'a>(descriptors: impl Iterator<Item = &'a Descriptor>, manifests: bool) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for descriptor in descriptors {
        if seen.insert(descriptor.digest) {
            needs.push(Need {
                digest: descriptor.digest,
                size: descriptor.size,
                manifest: manifests.then(|| descriptor.media_type.clone()),
            });
        }
    }
    needs
}

/// A layer that is not kept in registries and says where it is instead.
fn is_foreign(layer: &Descriptor) -> bool {
    let kind = layer.media_type.as_str();
    let foreign = kind == media_type::DOCKER_FOREIGN_LAYER || kind.contains(".nondistributable.");
    foreign && !layer.urls.is_empty()
}

/// Makes a manifest durable and visible. A cached one need not have its blobs here.
///
/// # Errors
/// `MANIFEST_BLOB_UNKNOWN`; the disk.
pub async fn keep(
    registry: &Arc<Registry>,
    repository: RepositoryName,
    received: Received,
    tags: Vec<Tag>,
    whole: bool,
) -> Result<()> {
    let registry = Arc::clone(registry);
    // A change that is queued is made, whether or not the client still waits.
    let kept = tokio::task::spawn_blocking(move || {
        let upload = registry.store.write_manifest(&received.bytes)?;
        let change = Change::PutManifest(Box::new(NewManifest {
            repository,
            digest: received.digest,
            record: received.record,
            tags,
            upload: upload.clone(),
            needs: if whole { received.needs } else { Vec::new() },
        }));
        let kept = registry.store.change_blocking(change);
        if kept.is_err() {
            registry.store.forget_upload(&upload);
        }
        kept.map(|_| ())
    });
    kept.await?
}

/// DELETE: by tag the tag goes, by digest the manifest and all tags that point to it.
///
/// # Errors
/// 405 when deleting is off; `MANIFEST_UNKNOWN`.
pub async fn delete(
    registry: &Arc<Registry>,
    repository: RepositoryName,
    wanted: ManifestName,
) -> Result {
    registry.may_delete()?;
    let change = match wanted {
        ManifestName::Tag(tag) => Change::DeleteTag { repository, tag },
        ManifestName::Digest(digest) => Change::DeleteManifest { repository, digest },
    };
    registry.store.change(change).await?;
    let builder = reply::status(StatusCode::ACCEPTED).header(header::CONTENT_LENGTH, 0);
    reply::finish(builder, Body::empty())
}
