//! Writing images as `docker save` of Docker 28 does: one tar stream that is an OCI layout and a Docker archive at once.
//! Layers are plain tar streams, made again bit by bit.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use cais_sys::failpoint;
use cais_types::oci::set::Encoded;
use cais_types::oci::{Descriptor, ImageSet, Member, Platform, media_type};
use cais_types::{Digest, Reference};
use serde_json::{Value, json};

use super::manifest::{NAME, REF_NAME};
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

/// A manifest of the index that a name stands for, as [`Store::save`] writes it.
pub struct SetManifest {
    pub descriptor: Descriptor,
    /// Bytes of the manifest and of what it names; layers as tar streams.
    pub size: u64,
    /// The image it is of, or that it attests something of.
    pub image: Arc<Image>,
    /// The manifest that it attests something of.
    pub about: Option<Digest>,
}

/// Something below `blobs/sha256/`.
enum Blob {
    Document(Vec<u8>),
    Layer { chain: Digest, size: u64 },
}

impl Store {
    /// Writes the images of these names or ids, of several platforms all or the one that is wanted. A name without a tag stands
    /// for all its tags.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        out: &mut impl Write,
    ) -> Result<(), ImageError> {
        let wanted = self.wanted(names, platform)?;
        let _pins = self.pins(&wanted);
        let mut blobs = BTreeMap::new();
        let mut index = Vec::new();
        let mut manifests = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for one in &wanted {
            let (manifest, bytes) = self.describe(one, &mut blobs)?;
            index.extend(descriptors(one, &manifest, bytes, &mut blobs));
            for (name, set) in &one.sets {
                index.push(self.describe_set(name, set, &mut blobs)?);
            }
            manifests.push(docker_manifest(one, &manifest));
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
    fn describe(
        &self,
        wanted: &Wanted,
        blobs: &mut BTreeMap<Digest, Blob>,
    ) -> Result<(Value, Vec<u8>), ImageError> {
        let image = wanted.image.as_ref();
        let (config, layers) = self.blobs_of(image, blobs)?;
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

    /// Collects the configuration and the layers of an image.
    fn blobs_of(
        &self,
        image: &Image,
        blobs: &mut BTreeMap<Digest, Blob>,
    ) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let config = self.content.get(&image.id)?;
        let mut layers = Vec::new();
        for (diff, chain) in image.diffs.iter().zip(&image.chain) {
            let size = self.read().layers.get(chain).map(|layer| layer.tar_size);
            let size =
                size.ok_or_else(|| ImageError::Damaged(chain.hex(), "missing".to_owned()))?;
            let chain = *chain;
            blobs.entry(*diff).or_insert(Blob::Layer { chain, size });
            layers.push(Descriptor::new(media_type::LAYER, *diff, size));
        }
        let descriptor = Descriptor::new(media_type::CONFIG, image.id, config.len() as u64);
        blobs.insert(image.id, Blob::Document(config));
        Ok((descriptor, layers))
    }

    /// Collects the blobs of all that a name stands for; answers what leads to it.
    fn describe_set(
        &self,
        name: &Reference,
        set: &ImageSet,
        blobs: &mut BTreeMap<Digest, Blob>,
    ) -> Result<Value, ImageError> {
        let mut documents = Vec::new();
        for member in &set.members {
            documents.push((member, self.member_manifest(member, blobs)?));
        }
        let mut keep = |document: Encoded| {
            let digest = document.descriptor.digest;
            blobs.insert(digest, Blob::Document(document.bytes));
            document.descriptor
        };
        let (mut manifests, mut attestations) = (Vec::new(), Vec::new());
        for (member, document) in documents {
            if let Some(attestation) = member.attestation(name, &document.descriptor) {
                for blob in attestation.blobs {
                    keep(blob);
                }
                attestations.push(keep(attestation.manifest));
            }
            manifests.push(keep(document));
        }
        let mut descriptor = match &manifests[..] {
            [only] if !set.is_index() => only.clone(),
            _ => keep(set.index([manifests, attestations].concat())),
        };
        let annotations = descriptor.annotations.get_or_insert_default();
        annotations.insert(NAME.to_owned(), name.to_string());
        let tag = name.tag().unwrap_or_default().to_owned();
        annotations.insert(REF_NAME.to_owned(), tag);
        Ok(json!(descriptor))
    }

    /// The manifests of the index that a name stands for; none where it is no index.
    pub fn set_manifests(&self, name: &Reference) -> Result<Vec<SetManifest>, ImageError> {
        let set = self.set(name)?.filter(ImageSet::is_index);
        let (mut images, mut attestations) = (Vec::new(), Vec::new());
        for member in set.iter().flat_map(|set| &set.members) {
            let mut blobs = BTreeMap::new();
            let document = self.member_manifest(member, &mut blobs)?;
            let image = self.resolve(&member.image.to_string())?;
            if let Some(attestation) = member.attestation(name, &document.descriptor) {
                let blobs = attestation.blobs.iter().map(|blob| blob.descriptor.size);
                attestations.push(SetManifest {
                    size: attestation.manifest.descriptor.size + blobs.sum::<u64>(),
                    descriptor: attestation.manifest.descriptor,
                    image: image.clone(),
                    about: Some(document.descriptor.digest),
                });
            }
            let sizes = blobs.values().map(|blob| match blob {
                Blob::Document(bytes) => bytes.len() as u64,
                Blob::Layer { size, .. } => *size,
            });
            images.push(SetManifest {
                size: document.descriptor.size + sizes.sum::<u64>(),
                descriptor: document.descriptor,
                image,
                about: None,
            });
        }
        images.append(&mut attestations);
        Ok(images)
    }

    /// The manifest of an image of a set, and its blobs.
    fn member_manifest(
        &self,
        member: &Member,
        blobs: &mut BTreeMap<Digest, Blob>,
    ) -> Result<Encoded, ImageError> {
        let image = self.read().images.get(&member.image).cloned();
        let image = image.ok_or_else(|| ImageError::NoSuchImage(member.image.to_string()))?;
        let (config, layers) = self.blobs_of(&image, blobs)?;
        Ok(member.manifest(config, layers, image.platform()))
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

    fn blobs(
        &self,
        blobs: &BTreeMap<Digest, Blob>,
        out: &mut impl Write,
    ) -> Result<(), ImageError> {
        let fail = |error| ImageError::io("write", "archive", error);
        for (digest, blob) in blobs {
            let path = format!("blobs/sha256/{}", digest.hex());
            match blob {
                Blob::Document(bytes) => file(out, &path, bytes).map_err(fail)?,
                Blob::Layer { chain, size } => {
                    header(out, &path, b'0', *size).map_err(fail)?;
                    failpoint::reach("save-layer");
                    self.layers.write_tar(&chain.hex(), digest, out)?;
                    pad(out, *size).map_err(fail)?;
                }
            }
        }
        Ok(())
    }
}

/// One entry of the index per name, or one without a name.
fn descriptors(
    wanted: &Wanted,
    manifest: &Value,
    bytes: Vec<u8>,
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Vec<Value> {
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

fn docker_manifest(wanted: &Wanted, manifest: &Value) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let sources: serde_json::Map<_, _> = layers
        .filter_map(|layer| Some((layer["digest"].as_str()?.to_owned(), layer.clone())))
        .collect();
    let tags: Vec<_> = wanted.references.iter().map(Reference::familiar).collect();
    json!({
        "Config": path(&wanted.image.id),
        "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
        "Layers": wanted.image.diffs.iter().map(path).collect::<Vec<_>>(),
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
