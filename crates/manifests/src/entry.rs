//! One manifest of a list, in the form Docker keeps and shows it, and the list made of several.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cais_types::Reference;
use cais_types::oci::{Descriptor, Manifest, Platform, media_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use cais_console::error::{CliError, Result};

/// A manifest and what is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The name it was found by.
    #[serde(rename = "Ref")]
    pub reference: String,
    /// Media type, digest, size and platform.
    pub descriptor: Descriptor,
    /// Its bytes in base64; files of old versions lack them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Value>,
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Value>,
}

impl Entry {
    /// An entry of a manifest's bytes.
    ///
    /// # Errors
    /// They are no JSON.
    pub fn new(reference: String, descriptor: Descriptor, bytes: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(bytes).map_err(invalid)?;
        let is_oci = descriptor.media_type == media_type::MANIFEST;
        let (docker, oci) = match is_oci {
            true => (None, Some(document)),
            false => (Some(document), None),
        };
        Ok(Self {
            reference,
            descriptor,
            raw: BASE64_STANDARD.encode(bytes),
            docker,
            oci,
        })
    }

    /// The manifest as the registry has it; `None` when a file of an old version did not keep it.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn bytes(&self) -> Result<Option<Vec<u8>>> {
        if self.raw.is_empty() {
            return Ok(None);
        }
        BASE64_STANDARD
            .decode(&self.raw)
            .map(Some)
            .map_err(|error| CliError::new(format!("{}: {error}", self.reference)))
    }

    /// Configuration and layers.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn blobs(&self) -> Result<Vec<Descriptor>> {
        let document = self.docker.as_ref().or(self.oci.as_ref());
        let Some(document) = document else {
            return Ok(Vec::new());
        };
        let manifest: Manifest = serde_json::from_value(document.clone()).map_err(invalid)?;
        Ok([manifest.config]
            .into_iter()
            .chain(manifest.layers)
            .collect())
    }

    /// Its platform, to be changed.
    pub fn platform_mut(&mut self) -> &mut Platform {
        self.descriptor.platform.get_or_insert_default()
    }

    /// The repository it was found in.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn repository(&self) -> Result<Reference> {
        super::reference(&self.reference)
    }
}

fn invalid(error: serde_json::Error) -> CliError {
    CliError::new(format!("invalid manifest: {error}"))
}

/// A list as registries take it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    media_type: &'a str,
    size: u64,
    digest: String,
    platform: Platform,
}

/// The bytes of a list of these manifests for a repository, and their media type. To the byte what Docker makes of them, so
/// that the digest is the same.
///
/// # Errors
/// A manifest is in another registry than the list.
pub fn list_document(entries: &[Entry], target: &Reference) -> Result<(Vec<u8>, &'static str)> {
    for entry in entries {
        let (own, wanted) = (entry.repository()?, target.domain());
        if own.domain() != wanted {
            return Err(CliError::new(format!(
                "cannot use source images from a different registry than the target image: {} != {wanted}",
                own.domain()
            )));
        }
    }
    let kind = match entries.first() {
        Some(entry) if entry.descriptor.media_type == media_type::MANIFEST => media_type::INDEX,
        _ => media_type::DOCKER_LIST,
    };
    let list = List {
        schema_version: 2,
        media_type: kind,
        manifests: entries
            .iter()
            .map(|entry| Item {
                media_type: &entry.descriptor.media_type,
                size: entry.descriptor.size,
                digest: entry.descriptor.digest.to_string(),
                platform: entry.descriptor.platform.clone().unwrap_or_default(),
            })
            .collect(),
    };
    Ok((indented(&list, b"   ").map_err(invalid)?, kind))
}

/// JSON with this indentation.
///
/// # Errors
/// A value without a JSON form.
pub fn indented(
    value: &impl Serialize,
    indent: &[u8],
) -> std::result::Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by docker 28.2.2 of the same manifests.
    #[test]
    fn a_list_has_the_digest_docker_gives_it() {
        let digest = "sha256:d3080fbdad3feeae075685bd008b933726017fdd328c54c3727d991240cf1ebd";
        let entry = |platform: &str| {
            let text = format!(
                "{{\"Ref\":\"127.0.0.1:5001/bb:latest\",\"Descriptor\":{{\"mediaType\":\"{}\",\"digest\":\"{digest}\",\
                 \"size\":527,\"platform\":{platform}}}}}",
                media_type::DOCKER_MANIFEST
            );
            serde_json::from_str::<Entry>(&text).unwrap()
        };
        let entries = [
            entry(r#"{"architecture":"amd64","os":"linux"}"#),
            entry(
                r#"{"architecture":"arm","os":"linux","os.version":"1","os.features":["a","b","c"],"variant":"v7"}"#,
            ),
        ];
        let target: Reference = "127.0.0.1:5001/list:latest".parse().unwrap();
        let (bytes, kind) = list_document(&entries, &target).unwrap();
        assert_eq!(kind, media_type::DOCKER_LIST);
        let made: cais_types::Digest = super::super::registry::digest_of(&bytes);
        assert_eq!(
            made.to_string(),
            "sha256:53bda235312994db5e0ff0e333878c9179ba52c8da07c68db72dbea412b83d01"
        );
        let elsewhere: Reference = "a/list".parse().unwrap();
        assert_eq!(
            list_document(&entries, &elsewhere).unwrap_err().message,
            "cannot use source images from a different registry than the target image: 127.0.0.1:5001 != docker.io"
        );
    }

    #[test]
    fn entries_stay_as_docker_wrote_them() {
        let text = r#"{"Ref":"r.example/x:1","Descriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:d3080fbdad3feeae075685bd008b933726017fdd328c54c3727d991240cf1ebd","size":2,"platform":{"architecture":"amd64","os":"linux"}},"Raw":"e30=","OCIManifest":{"z":1,"a":2}}"#;
        let entry: Entry = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(entry.bytes().unwrap().as_deref(), Some(&b"{}"[..]));
    }
}
