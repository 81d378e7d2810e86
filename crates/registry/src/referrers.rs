//! Which manifests are about another one (end-12). The list is kept as manifests come and go; an answer is built from their
//! records, and from the manifests themselves for the annotations.

use std::ops::Bound;
use std::sync::Arc;

use cais_types::Digest;
use cais_types::oci::{Descriptor, Document, Index, media_type};
use http::{StatusCode, header};

use super::call::Call;
use super::manifests;
use super::name::RepositoryName;
use super::registry::Registry;
use super::reply::{self, OCI_FILTERS_APPLIED, Result};
use super::store::ManifestRecord;

/// Referrers in one answer.
const PAGE: usize = 500;
/// Bytes of one answer, about: clients refuse manifests over 4 MiB.
const PAGE_BYTES: usize = 3 << 20;

/// GET: an index, empty when nothing is known of the digest.
///
/// # Errors
/// The disk.
pub async fn get(
    registry: &Arc<Registry>,
    call: Call,
    name: RepositoryName,
    subject: Digest,
) -> Result {
    let kind = call
        .query
        .get("artifactType")
        .filter(|kind| !kind.is_empty());
    let last = call.query.get("last").and_then(|text| text.parse().ok());
    let mut found = list(registry, &name, subject, last, kind);
    let mut more = found.len() > PAGE;
    found.truncate(PAGE);
    let mut manifests = Vec::with_capacity(found.len());
    let mut bytes = 0;
    for (digest, record) in found {
        let descriptor = describe(registry, digest, record).await;
        bytes += serde_json::to_vec(&descriptor).map_or(0, |text| text.len());
        if bytes > PAGE_BYTES && !manifests.is_empty() {
            more = true;
            break;
        }
        manifests.push(descriptor);
    }
    let mut builder = reply::status(StatusCode::OK);
    if let Some(last) = manifests.last().filter(|_| more) {
        let mut query = vec![("last", last.digest.to_string())];
        query.extend(kind.map(|kind| ("artifactType", kind.to_owned())));
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        let link = format!("</v2/{name}/referrers/{subject}?{query}>; rel=\"next\"");
        builder = builder.header(header::LINK, link);
    }
    if kind.is_some() {
        builder = builder.header(OCI_FILTERS_APPLIED, "artifactType");
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: None,
    };
    reply::json(builder, media_type::INDEX, &index)
}

/// Up to one more than a page, in the order of their digests.
fn list(
    registry: &Registry,
    name: &RepositoryName,
    subject: Digest,
    last: Option<Digest>,
    kind: Option<&str>,
) -> Vec<(Digest, ManifestRecord)> {
    let first = last.map_or_else(
        || Bound::Included((subject, Digest::from_bytes([0; 32]))),
        |last| Bound::Excluded((subject, last)),
    );
    registry.store.read(|index| {
        let Some(repository) = index.repository(name) else {
            return Vec::new();
        };
        repository
            .referrers
            .range((first, Bound::Unbounded))
            .take_while(|(about, _)| *about == subject)
            .filter_map(|(_, digest)| {
                let record = &repository.manifests.get(digest)?.record;
                let fits = kind.is_none_or(|kind| record.artifact_type.as_deref() == Some(kind));
                fits.then(|| (*digest, record.clone()))
            })
            .take(PAGE + 1)
            .collect()
    })
}

async fn describe(registry: &Arc<Registry>, digest: Digest, record: ManifestRecord) -> Descriptor {
    let mut descriptor = Descriptor::new(record.media_type, digest, record.size);
    descriptor.artifact_type = record.artifact_type;
    let Ok(bytes) = manifests::read(registry, digest, record.size).await else {
        return descriptor;
    };
    descriptor.annotations = match Document::parse(&bytes, None) {
        Ok(Document::Manifest(manifest)) => manifest.annotations,
        Ok(Document::Index(index)) => index.annotations,
        Err(_) => None,
    };
    descriptor
}
