//! Several images that one name stands for, with what is attested of each: the index, and the attestation manifests in it as
//! BuildKit lays them out (its attestation-storage.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Descriptor, Index, Manifest, Platform, media_type};
use crate::{Digest, Reference};

/// The annotation of an index that is the cache of a build: keys of steps, with blanks between them.
pub const CACHE_KEYS: &str = "io.cais.build.keys";
/// Annotations of what leads to an attestation manifest: what it is, and the manifest it attests something of.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// Statements of in-toto.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// Keys and values in a document.
pub type Annotations = BTreeMap<String, String>;

/// What a name stands for besides one image as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageSet {
    /// One for each platform, in the order they were asked for.
    pub members: Vec<Member>,
    /// Of the index.
    #[serde(default)]
    pub annotations: Annotations,
    /// Of what leads to the index, where something does.
    #[serde(default)]
    pub descriptor_annotations: Annotations,
}

/// An image of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The image's id.
    pub image: Digest,
    #[serde(default)]
    pub statements: Vec<Statement>,
    /// Of its manifest.
    #[serde(default)]
    pub annotations: Annotations,
    /// Of its descriptor in the index.
    #[serde(default)]
    pub descriptor_annotations: Annotations,
}

/// Something that is attested of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// A URI.
    #[serde(alias = "predicateType")]
    pub predicate_type: String,
    pub predicate: Value,
}

/// A document with its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// An attestation manifest and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Its configuration and its statements.
    pub blobs: Vec<Encoded>,
    pub manifest: Encoded,
}

impl Encoded {
    /// A value as a document of this type.
    pub fn new(media_type: &str, value: &impl Serialize) -> Self {
        // Maps of strings and numbers always are JSON.
        let bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
        let digest = Digest::of(&bytes);
        Self {
            descriptor: Descriptor::new(media_type, digest, bytes.len() as u64),
            bytes,
        }
    }
}

impl Member {
    /// A member without statements and annotations.
    pub fn new(image: Digest) -> Self {
        Self {
            image,
            statements: Vec::new(),
            annotations: Annotations::new(),
            descriptor_annotations: Annotations::new(),
        }
    }

    /// The manifest of the image, with its descriptor for the index.
    pub fn manifest(
        &self,
        config: Descriptor,
        layers: Vec<Descriptor>,
        platform: Platform,
    ) -> Encoded {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: some(&self.annotations),
        };
        let mut document = Encoded::new(media_type::MANIFEST, &manifest);
        document.descriptor.platform = Some(platform);
        document.descriptor.annotations = some(&self.descriptor_annotations);
        document
    }

    /// What is attested of the image whose manifest this describes; none without statements.
    pub fn attestation(&self, name: &Reference, manifest: &Descriptor) -> Option<Attestation> {
        if self.statements.is_empty() {
            return None;
        }
        let subject = json!([{
            "name": package_url(name, manifest.platform.as_ref()),
            "digest": { "sha256": manifest.digest.hex() },
        }]);
        let statement = |statement: &Statement| {
            let mut document = Encoded::new(
                STATEMENT,
                &json!({
                    "_type": "https://in-toto.io/Statement/v0.1",
                    "predicateType": statement.predicate_type,
                    "subject": subject,
                    "predicate": statement.predicate,
                }),
            );
            let kind = (
                "in-toto.io/predicate-type".to_owned(),
                statement.predicate_type.clone(),
            );
            document.descriptor.annotations = Some([kind].into());
            document
        };
        let mut blobs: Vec<Encoded> = self.statements.iter().map(statement).collect();
        let layers: Vec<Descriptor> = blobs.iter().map(|blob| blob.descriptor.clone()).collect();
        let diffs: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        let config = Encoded::new(
            media_type::CONFIG,
            &json!({
                "architecture": "unknown", "os": "unknown", "config": {},
                "rootfs": { "type": "layers", "diff_ids": diffs },
            }),
        );
        let unknown = Platform {
            architecture: "unknown".to_owned(),
            os: "unknown".to_owned(),
            ..Platform::default()
        };
        let bare = Self::new(self.image);
        let mut document = bare.manifest(config.descriptor.clone(), layers, unknown);
        document.descriptor.annotations = Some(
            [
                (REFERENCE_DIGEST, manifest.digest.to_string()),
                (REFERENCE_TYPE, "attestation-manifest".to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        );
        blobs.push(config);
        Some(Attestation {
            blobs,
            manifest: document,
        })
    }
}

impl ImageSet {
    /// Whether the name stands for an index; else for a manifest that has annotations.
    pub fn is_index(&self) -> bool {
        let attested = self.members.iter().any(|one| !one.statements.is_empty());
        let annotated = !self.annotations.is_empty() || !self.descriptor_annotations.is_empty();
        self.members.len() > 1 || attested || annotated
    }

    /// The index of these manifests: images first, then what is attested of them.
    pub fn index(&self, manifests: Vec<Descriptor>) -> Encoded {
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: some(&self.annotations),
        };
        let mut document = Encoded::new(media_type::INDEX, &index);
        document.descriptor.annotations = some(&self.descriptor_annotations);
        document
    }
}

fn some(annotations: &Annotations) -> Option<Annotations> {
    Some(annotations.clone()).filter(|annotations| !annotations.is_empty())
}

/// `pkg:docker/name@tag?platform=os%2Farchitecture`.
pub fn package_url(name: &Reference, platform: Option<&Platform>) -> String {
    let mut url = format!("pkg:docker/{}", name.familiar_name());
    if let Some(tag) = name.tag() {
        url = format!("{url}@{tag}");
    }
    match platform {
        Some(platform) => {
            let platform = platform.to_string().replace('/', "%2F");
            format!("{url}?platform={platform}")
        }
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        let mut member = Member::new(Digest::of(b"image"));
        member.statements.push(Statement {
            predicate_type: "https://spdx.dev/Document".to_owned(),
            predicate: json!({ "spdxVersion": "SPDX-2.3" }),
        });
        member
    }

    #[test]
    fn an_attestation_names_the_manifest_it_is_about() {
        let member = member();
        let config = Descriptor::new(media_type::CONFIG, Digest::of(b"{}"), 2);
        let manifest = member.manifest(config, Vec::new(), "linux/arm64".parse().unwrap());
        let name: Reference = "localhost:5000/a/b:1".parse().unwrap();
        let attestation = member.attestation(&name, &manifest.descriptor).unwrap();
        let [statement, config] = &attestation.blobs[..] else {
            panic!("{attestation:?}");
        };
        let document: Value = serde_json::from_slice(&statement.bytes).unwrap();
        let subject = &document["subject"][0];
        assert_eq!(
            subject["digest"]["sha256"],
            manifest.descriptor.digest.hex()
        );
        assert_eq!(
            subject["name"],
            "pkg:docker/localhost:5000/a/b@1?platform=linux%2Farm64"
        );
        let shown = &attestation.manifest.descriptor;
        let annotations = shown.annotations.as_ref().unwrap();
        assert_eq!(
            annotations["vnd.docker.reference.digest"],
            manifest.descriptor.digest.to_string()
        );
        assert_eq!(
            shown.platform.as_ref().unwrap().to_string(),
            "unknown/unknown"
        );
        let config: Value = serde_json::from_slice(&config.bytes).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            statement.descriptor.digest.to_string()
        );
    }

    #[test]
    fn one_image_with_annotations_of_its_own_is_no_index() {
        let mut set = ImageSet {
            members: vec![Member::new(Digest::of(b"image"))],
            ..ImageSet::default()
        };
        set.members[0].annotations.insert("a".into(), "b".into());
        assert!(!set.is_index());
        set.annotations.insert("a".into(), "b".into());
        assert!(set.is_index());
        set.annotations.clear();
        set.members[0] = member();
        assert!(set.is_index());
    }
}
