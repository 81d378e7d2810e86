//! Writing images as `docker save` of Docker 28 does: one tar stream that is an OCI layout and a Docker archive at once.
//! Layers are plain tar streams, made again bit by bit.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use cais_sys::failpoint;
use cais_types::oci::{Descriptor, ImageSet, Platform, media_type};
use cais_types::{Digest, Reference};
use serde_json::{Value, json};

use super::manifest::{NAME, REF_NAME};
use super::set::Form;
use crate::config::ManifestOrIndex;
use crate::error::ImageError;
use crate::model::Image;
use crate::snapshot::Pin;
use crate::store::Store;
use crate::tarball::export::{HeaderBlock, pad};

/// An image and the names it is saved under.
struct Wanted {
    image: Arc<Image>,
    references: Vec<Reference>,
    /// Those of its names that stand for more than it.
    sets: BTreeMap<Reference, ImageSet>,
}

/// Something below `blobs/sha256/`.
pub(super) enum Blob {
    Document(Vec<u8>),
    Layer {
        chain: Digest,
        diff: Digest,
        size: u64,
        compressed: bool,
    },
}

/// Blobs by their digests.
pub(super) type Blobs = BTreeMap<Digest, Blob>;

impl Wanted {
    /// Whether it is saved as it is, not only as one of several.
    fn is_plain(&self) -> bool {
        let mut names = self.references.iter();
        self.references.is_empty() || names.any(|name| !self.sets.contains_key(name))
    }
}

impl Store {
    /// Writes the images of these names or ids, of several platforms all or the one that is wanted. A name without a tag stands
    /// for all its tags.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        out: &mut (impl Write + Send),
    ) -> Result<(), ImageError> {
        let wanted = self.wanted(names, platform)?;
        let _pins = self.pins(&wanted);
        let mut blobs = BTreeMap::new();
        let mut index = Vec::new();
        let mut manifests = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for one in &wanted {
            let mut layers = Vec::new();
            if one.is_plain() {
                let (manifest, bytes) = self.describe(one, &mut blobs)?;
                index.extend(descriptors(one, &manifest, bytes, &mut blobs));
                layers = serde_json::from_value(manifest["layers"].clone()).unwrap_or_default();
            }
            for (name, set) in &one.sets {
                let saved = self.describe_set(name, set, &mut blobs)?;
                if layers.is_empty() {
                    layers = saved.layers_of(&one.image.id);
                }
                index.push(saved.descriptor);
            }
            manifests.push(docker_manifest(one, &layers));
            for reference in &one.references {
                if let (Some(tag), Some(top)) = (reference.tag(), one.image.diffs.last()) {
                    let tags = repositories.entry(reference.familiar_name()).or_default();
                    tags.insert(tag.to_owned(), top.hex());
                }
            }
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": index,
        });
        let fail = |error| ImageError::io("write", "archive", error);
        directory(out, "blobs/").map_err(fail)?;
        directory(out, "blobs/sha256/").map_err(fail)?;
        self.blobs(&blobs, out)?;
        failpoint::reach("save-layers");
        document(out, "index.json", &index).map_err(fail)?;
        document(out, "manifest.json", &Value::Array(manifests)).map_err(fail)?;
        document(out, "oci-layout", &json!({"imageLayoutVersion": "1.0.0"})).map_err(fail)?;
        if !repositories.is_empty() {
            document(out, "repositories", &json!(repositories)).map_err(fail)?;
        }
        out.write_all(&[0; 1024]).map_err(fail)?;
        out.flush().map_err(fail)
    }

    fn pins(&self, wanted: &[Wanted]) -> Vec<Pin<&Self>> {
        let model = self.read();
        let sets = wanted.iter().flat_map(|one| one.sets.values());
        let members = sets.flat_map(|set| &set.members);
        let members = members.filter_map(|one| model.images.get(&one.image)?.top());
        let tops: Vec<_> = wanted
            .iter()
            .filter_map(|one| one.image.top())
            .chain(members)
            .collect();
        drop(model);
        tops.into_iter().map(|top| self.pin(top)).collect()
    }

    fn wanted(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Vec<Wanted>, ImageError> {
        let mut wanted = self.named(names, platform)?;
        for one in wanted.iter_mut().filter(|_| platform.is_none()) {
            for name in &one.references {
                let set = self.set(name)?;
                one.sets.extend(set.map(|set| (name.clone(), set)));
            }
        }
        Ok(wanted)
    }

    fn named(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Vec<Wanted>, ImageError> {
        let model = self.read();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut add = |image: Arc<Image>, reference: Option<Reference>| {
            let place = wanted.iter().position(|one| one.image.id == image.id);
            let place = place.unwrap_or_else(|| {
                wanted.push(Wanted {
                    image,
                    references: Vec::new(),
                    sets: BTreeMap::new(),
                });
                wanted.len() - 1
            });
            let references = &mut wanted[place].references;
            references.extend(reference.filter(|one| !references.contains(one)));
        };
        for name in names {
            let named: Option<Reference> = name.parse().ok();
            let tags: Vec<_> = model
                .references
                .iter()
                .filter(|(reference, _)| {
                    named.as_ref().is_some_and(|named| {
                        named.is_name_only()
                            && named.name() == reference.name()
                            && reference.tag().is_some()
                    })
                })
                .collect();
            for (reference, _) in &tags {
                let image = model.find_for(&reference.to_string(), platform)?;
                add(image, Some((*reference).clone()));
            }
            if tags.is_empty() {
                let image = model
                    .find_for(name, platform)
                    .map_err(|error| match error {
                        ImageError::NoSuchImage(_) => ImageError::NoSuchReference,
                        other => other,
                    })?;
                let named = named.filter(|named| model.references.contains_key(named));
                add(image, named.filter(|named| named.tag().is_some()));
            }
        }
        Ok(wanted)
    }

    /// Collects the blobs of an image and answers its manifest: the one it came with where that names plain layers.
    fn describe(&self, wanted: &Wanted, blobs: &mut Blobs) -> Result<(Value, Vec<u8>), ImageError> {
        let image = wanted.image.as_ref();
        let (config, layers) = self.blobs_of(image, Form::Plain, blobs)?;
        if let Some(kept) = self.kept_manifest(image) {
            return Ok(kept);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config,
            "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        Ok((manifest, bytes))
    }

    fn kept_manifest(&self, image: &Image) -> Option<(Value, Vec<u8>)> {
        let bytes = self.content.get(&image.manifest.as_ref()?.digest).ok()?;
        let manifest: ManifestOrIndex = serde_json::from_slice(&bytes).ok()?;
        let layers = manifest.layers?;
        let plain = layers
            .iter()
            .map(|layer| layer.digest)
            .eq(image.diffs.iter().copied());
        if !plain || manifest.config?.digest != image.id {
            return None;
        }
        Some((serde_json::from_slice(&bytes).ok()?, bytes))
    }

    fn blobs(&self, blobs: &Blobs, out: &mut (impl Write + Send)) -> Result<(), ImageError> {
        let fail = |error| ImageError::io("write", "archive", error);
        for (digest, blob) in blobs {
            let path = format!("blobs/sha256/{}", digest.hex());
            match blob {
                Blob::Document(bytes) => file(out, &path, bytes).map_err(fail)?,
                Blob::Layer {
                    chain,
                    diff,
                    size,
                    compressed,
                } => {
                    header(out, &path, b'0', *size).map_err(fail)?;
                    failpoint::reach("save-layer");
                    match compressed {
                        true => self.write_compressed(chain, diff, digest, out)?,
                        false => drop(self.layers.write_tar(&chain.hex(), diff, out)?),
                    }
                    pad(out, *size).map_err(fail)?;
                }
            }
        }
        Ok(())
    }
}

/// One entry of the index per name, or one without a name.
fn descriptors(wanted: &Wanted, manifest: &Value, bytes: Vec<u8>, blobs: &mut Blobs) -> Vec<Value> {
    let digest = crate::content::digest(&bytes);
    let kind = manifest["mediaType"]
        .as_str()
        .unwrap_or(media_type::MANIFEST);
    let plain = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
    blobs.insert(digest, Blob::Document(bytes));
    if wanted.references.is_empty() {
        return vec![plain];
    }
    let alone = wanted.references.iter();
    let alone = alone.filter(|name| !wanted.sets.contains_key(name));
    let named = |reference: &Reference| {
        let mut descriptor = plain.clone();
        descriptor["annotations"] = json!({
            NAME: reference.to_string(), REF_NAME: reference.tag(),
        });
        descriptor
    };
    alone.map(named).collect()
}

fn docker_manifest(wanted: &Wanted, layers: &[Descriptor]) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let sources = wanted.image.diffs.iter().zip(layers);
    let sources: serde_json::Map<_, _> = sources
        .map(|(diff, layer)| (diff.to_string(), json!(layer)))
        .collect();
    let tags: Vec<_> = wanted.references.iter().map(Reference::familiar).collect();
    json!({
        "Config": path(&wanted.image.id),
        "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
        "Layers": layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
        "LayerSources": sources,
    })
}

fn document(out: &mut impl Write, path: &str, value: &Value) -> io::Result<()> {
    file(out, path, value.to_string().as_bytes())
}

fn file(out: &mut impl Write, path: &str, bytes: &[u8]) -> io::Result<()> {
    header(out, path, b'0', bytes.len() as u64)?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn directory(out: &mut impl Write, path: &str) -> io::Result<()> {
    header(out, path, b'5', 0)
}

fn header(out: &mut impl Write, path: &str, flag: u8, size: u64) -> io::Result<()> {
    let header = HeaderBlock {
        path: path.as_bytes(),
        link: &[],
        flag,
        mode: if flag == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        size,
        seconds: 0,
        nanoseconds: 0,
        device: (0, 0),
    };
    header.write(out, &[])
}
