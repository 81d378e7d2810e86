//! Telling manifests from indexes without being talked into the wrong one (CVE-2021-41190).

use serde::Deserialize;

use super::{Descriptor, Index, Manifest, media_type};

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("invalid manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// What it has, what it says it is, or what it was announced as differ.
    #[error("invalid manifest: ambiguous media type")]
    Ambiguous,
    #[error("invalid manifest: schema version {0} is not supported")]
    SchemaVersion(u64),
    #[error(
        "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed"
    )]
    Schema1,
    #[error("invalid manifest: unsupported media type {0:?}")]
    MediaType(String),
}

/// Which fields are there decides what the document is; it is parsed as that afterwards.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline<'a> {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, borrow)]
    manifests: Option<&'a serde_json::value::RawValue>,
    #[serde(default, borrow)]
    config: Option<&'a serde_json::value::RawValue>,
    #[serde(default, borrow)]
    layers: Option<&'a serde_json::value::RawValue>,
    #[serde(default, borrow)]
    fs_layers: Option<&'a serde_json::value::RawValue>,
}

impl Document {
    /// Reads a document. `announced` is the media type of the answer's header or of the descriptor that led here; parameters
    /// after a `;` and unknown types in it are ignored.
    ///
    /// # Errors
    /// Broken JSON, a document that is both or neither, media types that contradict each other, schema 1.
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Self, DocumentError> {
        let outline: Outline<'_> = serde_json::from_slice(bytes)?;
        let announced = announced
            .and_then(|text| text.split(';').next())
            .map(str::trim);
        let says_schema1 = |text: &str| {
            matches!(
                text,
                media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED
            )
        };
        if outline.schema_version == Some(1)
            || outline.fs_layers.is_some()
            || announced.is_some_and(says_schema1)
        {
            return Err(DocumentError::Schema1);
        }
        match outline.schema_version {
            Some(2) => {}
            other => return Err(DocumentError::SchemaVersion(other.unwrap_or(0))),
        }
        let is_index = outline.manifests.is_some();
        if is_index == (outline.layers.is_some() || outline.config.is_some()) {
            return Err(DocumentError::Ambiguous);
        }
        let own = outline.media_type.as_deref().filter(|own| !own.is_empty());
        for said in [own, announced].into_iter().flatten() {
            let known = media_type::is_index(said) || media_type::is_manifest(said);
            if known && media_type::is_index(said) != is_index {
                return Err(DocumentError::Ambiguous);
            }
        }
        if let (Some(own), Some(announced)) = (own, announced) {
            let known = media_type::is_index(announced) || media_type::is_manifest(announced);
            if known && own != announced {
                return Err(DocumentError::Ambiguous);
            }
        }
        if let Some(own) = own
            && !media_type::is_index(own)
            && !media_type::is_manifest(own)
        {
            return Err(DocumentError::MediaType(own.to_owned()));
        }
        Ok(if is_index {
            Self::Index(Box::new(serde_json::from_slice(bytes)?))
        } else {
            Self::Manifest(Box::new(serde_json::from_slice(bytes)?))
        })
    }

    /// The manifest this one is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(fields: &str) -> String {
        format!(r#"{{"schemaVersion":2,{fields}}}"#)
    }

    fn manifest_fields() -> String {
        format!(r#""config":{{"digest":"{DIGEST}","size":0}},"layers":[]"#)
    }

    #[test]
    fn cve_2021_41190_a_document_that_is_both_is_refused() {
        let both = text(&format!(r#"{},"manifests":[]"#, manifest_fields()));
        assert!(matches!(
            Document::parse(both.as_bytes(), None),
            Err(DocumentError::Ambiguous)
        ));
        let index = text(r#""manifests":[]"#);
        for wrong in [media_type::MANIFEST, media_type::DOCKER_MANIFEST] {
            assert!(
                Document::parse(index.as_bytes(), Some(wrong)).is_err(),
                "{wrong}"
            );
            let own = text(&format!(r#""mediaType":"{wrong}","manifests":[]"#));
            assert!(Document::parse(own.as_bytes(), None).is_err(), "{wrong}");
        }
        let own = text(&format!(
            r#""mediaType":"{}",{}"#,
            media_type::MANIFEST,
            manifest_fields()
        ));
        assert!(Document::parse(own.as_bytes(), Some(media_type::DOCKER_MANIFEST)).is_err());
        assert!(Document::parse(own.as_bytes(), Some(media_type::MANIFEST)).is_ok());
    }

    #[test]
    fn parameters_and_unknown_announcements_do_not_matter() {
        let manifest = text(&manifest_fields());
        for fine in [
            None,
            Some("application/json"),
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        ] {
            assert!(matches!(
                Document::parse(manifest.as_bytes(), fine),
                Ok(Document::Manifest(_))
            ));
        }
    }

    #[test]
    fn schema_1_and_unknown_schemas_are_refused() {
        for (bad, want) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":3,"manifests":[]}"#, "version 3"),
            (r#"{"manifests":[]}"#, "version 0"),
            (r"[]", "invalid manifest"),
        ] {
            let error = Document::parse(bad.as_bytes(), None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
