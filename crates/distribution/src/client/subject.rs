//! Manifests that are about another one, their subject. A registry that keeps lists of such referrers says that it has noted it; at
//! others the list is an index under a tag made of the subject's digest, which whoever pushes keeps (distribution-spec, "Pushing
//! Manifests with Subject" and "Referrers Tag Schema").

use cais_types::Digest;
use cais_types::oci::{Descriptor, Document, Index, media_type};
use http::StatusCode;

use super::error::RegistryError;
use super::repository::{Repository, digest_of};
use super::request::RawManifest;

/// Puts a manifest under a tag or its digest, and sees to it that it is found as a referrer of its subject.
pub async fn put_manifest(
    target: &Repository,
    reference: &str,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let noted = target.put_manifest(reference, manifest).await?;
    let Ok(document) = Document::parse(&manifest.bytes, Some(&manifest.media_type)) else {
        return Ok(());
    };
    let Some(subject) = document.subject().map(|subject| subject.digest) else {
        return Ok(());
    };
    if noted == Some(subject) || target.lists_referrers(&subject).await? {
        return Ok(());
    }
    let tag = format!("sha256-{}", subject.hex());
    let mut index = listed(target, &tag).await?;
    if index
        .manifests
        .iter()
        .any(|one| one.digest == manifest.digest)
    {
        return Ok(());
    }
    index.manifests.push(referrer(&document, manifest));
    let bytes =
        serde_json::to_vec(&index).map_err(|error| RegistryError::Settings(error.to_string()))?;
    let list = RawManifest {
        digest: digest_of(&bytes),
        bytes: bytes.into(),
        media_type: media_type::INDEX.to_owned(),
    };
    target.put_manifest(&tag, &list).await.map(drop)
}

/// The list that is there, or one of nothing.
async fn listed(target: &Repository, tag: &str) -> Result<Index, RegistryError> {
    let raw = match target.manifest(tag).await {
        Ok(raw) => raw,
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            return Ok(Index {
                schema_version: 2,
                media_type: Some(media_type::INDEX.to_owned()),
                artifact_type: None,
                manifests: Vec::new(),
                subject: None,
                annotations: None,
            });
        }
        Err(error) => return Err(error),
    };
    match Document::parse(&raw.bytes, Some(&raw.media_type))? {
        Document::Index(index) => Ok(*index),
        Document::Manifest(_) => Err(RegistryError::Unusable(format!(
            "{tag} is not a list of referrers"
        ))),
    }
}

/// What a list says of a manifest.
fn referrer(document: &Document, manifest: &RawManifest) -> Descriptor {
    let mut entry = manifest.descriptor();
    (entry.artifact_type, entry.annotations) = match document {
        Document::Manifest(one) => {
            let own = one.artifact_type.clone().filter(|kind| !kind.is_empty());
            let kind = own.unwrap_or_else(|| one.config.media_type.clone());
            (Some(kind), one.annotations.clone())
        }
        Document::Index(one) => (one.artifact_type.clone(), one.annotations.clone()),
    };
    entry
}

impl Repository {
    /// Whether the registry keeps lists of referrers.
    async fn lists_referrers(&self, subject: &Digest) -> Result<bool, RegistryError> {
        match self.referrers(subject).await {
            Ok(()) => Ok(true),
            Err(error)
                if error
                    .status()
                    .is_some_and(|status| status.is_client_error()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
