//! An image store in memory that does what the contract of the traits says.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cais_distribution::client::store::{
    Compression, KnownBlob, PullStore, Pulled, PulledImage, PushStore, PushedImage, PushedLayer,
    PushedSet, UnpackedLayer,
};
use cais_types::oci::{Descriptor, Document, Manifest, Platform, media_type};
use cais_types::{Digest, Error, Reference, Result};
use flate2::write::GzEncoder;

use super::digest;

type Layers = Vec<(Descriptor, Digest)>;

#[derive(Clone)]
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: Option<(Manifest, Vec<u8>, String)>,
    pub diffs: Vec<Digest>,
}

#[derive(Default)]
pub struct Content {
    /// Plain layers by diff id.
    pub layers: HashMap<Digest, Vec<u8>>,
    pub images: HashMap<Digest, Image>,
    pub names: BTreeMap<String, Digest>,
    pub known: HashMap<Digest, Vec<KnownBlob>>,
    chains: HashMap<Digest, Digest>,
}

#[derive(Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
    /// Layers that were unpacked whole.
    pub unpacked: AtomicUsize,
    /// Layers that were compressed.
    pub written: AtomicUsize,
    /// What unpacking fails with after the whole stream was read.
    pub refuse_unpack: Mutex<Option<String>>,
}

impl MemoryStore {
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Keeps an image of these layers under a name, as if it had been built here.
    pub fn build(&self, name: &str, layers: &[Vec<u8>]) -> Digest {
        let diffs: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        let config = config_of(&diffs, "amd64");
        let id = digest(&config);
        let mut content = self.content();
        for (diff, layer) in diffs.iter().zip(layers) {
            content.layers.insert(*diff, layer.clone());
        }
        let image = Image {
            config,
            manifest: None,
            diffs,
        };
        content.images.insert(id, image);
        content.names.insert(name.to_owned(), id);
        id
    }

    pub fn id_of(&self, name: &str) -> Option<Digest> {
        self.content().names.get(name).copied()
    }

    /// Plain layers of a named image.
    pub fn layers_of(&self, name: &str) -> Vec<Vec<u8>> {
        let content = self.content();
        let image = &content.images[&content.names[name]];
        let layers = image.diffs.iter().map(|diff| content.layers[diff].clone());
        layers.collect()
    }
}

/// The configuration of an image of these layers.
pub fn config_of(diffs: &[Digest], architecture: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }))
    .unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bad(text: &str) -> Error {
    Error::invalid(text)
}

impl PullStore for MemoryStore {
    fn has_image(&self, config: &Digest) -> bool {
        self.content().images.contains_key(config)
    }

    fn config(&self, config: &Digest) -> Option<Vec<u8>> {
        let content = self.content();
        let image = content.images.get(config);
        image.map(|image| image.config.clone())
    }

    fn has_layer(&self, chain: &Digest) -> bool {
        self.content().chains.contains_key(chain)
    }

    fn has_diff(&self, diff: &Digest) -> bool {
        self.content().layers.contains_key(diff)
    }

    fn unpack(
        &self,
        layer: &Descriptor,
        diff: &Digest,
        stream: &mut (dyn Read + Send),
    ) -> Result<UnpackedLayer> {
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .map_err(|error| bad(&format!("stream: {error}")))?;
        if let Some(text) = self.refuse_unpack.lock().unwrap().as_deref() {
            return Err(Error::internal(text));
        }
        if bytes.len() as u64 != layer.size || digest(&bytes) != layer.digest {
            return Err(bad("filesystem layer verification failed"));
        }
        let plain = if layer.media_type.ends_with("gzip") {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut plain)
                .map_err(|error| bad(&error.to_string()))?;
            plain
        } else {
            bytes
        };
        if digest(&plain) != *diff {
            return Err(bad("wrong diff id calculated on extraction"));
        }
        self.unpacked.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Mutex::new(Some(plain))))
    }

    fn commit(&self, image: PulledImage, unpacked: Vec<(Digest, UnpackedLayer)>) -> Result<Pulled> {
        let mut content = self.content();
        for (diff, layer) in unpacked {
            let layer = layer.downcast_ref::<Mutex<Option<Vec<u8>>>>().unwrap();
            if let Some(plain) = layer.lock().unwrap().take() {
                content.layers.insert(diff, plain);
            }
        }
        let missing = |(_, diff): &&(Descriptor, Digest)| !content.layers.contains_key(diff);
        if let Some((layer, _)) = image.layers.iter().find(missing) {
            return Err(Error::internal(format!(
                "layer {} is missing",
                layer.digest
            )));
        }
        remember_pulled(&mut content, &image.layers);
        let id = digest(&image.config);
        let Document::Manifest(manifest) = Document::parse(&image.manifest, None).unwrap() else {
            return Err(bad("not a manifest"));
        };
        let mut unchanged = content.images.contains_key(&id);
        let diffs = image.layers.iter().map(|(_, diff)| *diff).collect();
        let kept = Image {
            config: image.config,
            manifest: Some((*manifest, image.manifest, image.media_type)),
            diffs,
        };
        content.images.insert(id, kept);
        for name in image.references {
            unchanged &= content.names.insert(name.to_string(), id) == Some(id);
        }
        Ok(Pulled { id, unchanged })
    }
}

fn remember_pulled(content: &mut Content, layers: &Layers) {
    let mut below: Option<Digest> = None;
    for (layer, diff) in layers {
        let chain = below.map_or(*diff, |below| digest(format!("{below} {diff}").as_bytes()));
        content.chains.insert(chain, *diff);
        below = Some(chain);
        let known = content.known.entry(*diff).or_default();
        if known.iter().all(|k| k.descriptor.digest != layer.digest) {
            known.push(KnownBlob {
                descriptor: layer.clone(),
                repositories: Vec::new(),
                reproducible: false,
            });
        }
    }
}

/// Counts and hashes what goes through.
struct Hashing<'a> {
    out: &'a mut (dyn Write + Send),
    hash: ring::digest::Context,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl PushStore for MemoryStore {
    fn set(&self, _: &Reference) -> Result<Option<PushedSet>> {
        Ok(None)
    }

    fn image(&self, name: &Reference) -> Result<PushedImage> {
        let content = self.content();
        let id = content.names.get(&name.to_string()).copied();
        let id = id.ok_or_else(|| {
            Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                name.familiar_name()
            ))
        })?;
        let image = content.images[&id].clone();
        let layers = image.diffs.iter().map(|diff| PushedLayer {
            chain: *diff,
            diff: *diff,
            tar_size: content.layers[diff].len() as u64,
            known: content.known.get(diff).cloned().unwrap_or_default(),
        });
        Ok(PushedImage {
            id,
            platform: Platform::host(),
            config: image.config,
            layers: layers.collect(),
            manifest: image.manifest,
            pin: Box::new(()),
        })
    }

    fn tags(&self, repository: &str) -> Vec<Reference> {
        let content = self.content();
        let prefix = format!("{repository}:");
        let names = content
            .names
            .keys()
            .filter(|name| name.starts_with(&prefix));
        names.map(|name| name.parse().unwrap()).collect()
    }

    fn write_layer(
        &self,
        layer: &PushedLayer,
        compression: Compression,
        out: &mut (dyn Write + Send),
    ) -> Result<Descriptor> {
        self.written.fetch_add(1, Ordering::SeqCst);
        let plain = self.content().layers[&layer.diff].clone();
        let hashing = Hashing {
            out,
            hash: ring::digest::Context::new(&ring::digest::SHA256),
            size: 0,
        };
        let failed = |error: io::Error| Error::internal(error.to_string());
        let mut encoder = GzEncoder::new(hashing, flate2::Compression::fast());
        assert_eq!(compression, Compression::Gzip);
        encoder.write_all(&plain).map_err(failed)?;
        let hashing = encoder.finish().map_err(failed)?;
        let raw: [u8; 32] = hashing.hash.finish().as_ref().try_into().unwrap();
        Ok(Descriptor::new(
            media_type::DOCKER_LAYER_GZIP,
            Digest::from_bytes(raw),
            hashing.size,
        ))
    }

    fn remember(
        &self,
        diff: &Digest,
        blob: &Descriptor,
        repository: &str,
        reproducible: bool,
    ) -> Result<()> {
        let mut content = self.content();
        let known = content.known.entry(*diff).or_default();
        let repository = repository.to_owned();
        match known
            .iter_mut()
            .find(|k| k.descriptor.digest == blob.digest)
        {
            Some(known) => known.repositories.insert(0, repository),
            None => known.push(KnownBlob {
                descriptor: blob.clone(),
                repositories: vec![repository],
                reproducible,
            }),
        }
        Ok(())
    }

    fn pushed(&self, id: &Digest, digest: &Reference) -> Result<()> {
        self.content().names.insert(digest.to_string(), *id);
        Ok(())
    }
}
