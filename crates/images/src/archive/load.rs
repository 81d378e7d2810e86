//! Loading an image archive from a stream. Layers are unpacked while they come by; which image they belong to is known
//! once the manifest has come, wherever in the archive that is.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use cais_types::oci::Platform;
use cais_types::{Digest, Reference};

use super::manifest::{Plan, plans, set_plans};
use crate::addition::{Committed, NewImage};
use crate::compression::{Compression, decompress, detect};
use crate::content::{DOCUMENT_MAX, digest};
use crate::error::{ImageError, TarError};
use crate::layers::unpack::{UnpackedLayer, Unpacking, unpack};
use crate::store::Store;
use crate::tarball::place::clean;
use crate::tarball::reader::PayloadReader;
use crate::tarball::{Kind, TarReader};

/// Bytes read from the archive at a time.
const BUFFER: usize = 256 * 1024;
/// All JSON documents of one archive together.
const DOCUMENTS_MAX: u64 = 64 * 1024 * 1024;
/// Bytes looked at to tell what an entry is.
const HEAD: usize = 512;
/// Bytes of a layer between two progress events.
const STEP: u64 = 4 * 1024 * 1024;

/// What a client is told while an archive is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// `Loading layer`, with how far it is.
    Layer {
        /// 12 digits.
        id: String,
        current: u64,
        total: u64,
    },
    /// A line of the result: `Loaded image: busybox:latest`.
    Message(String),
}

/// Receives the events.
pub type Progress<'a> = &'a mut (dyn FnMut(LoadEvent) + Send);

/// An image that came out of an archive.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    pub id: Digest,
    pub references: Vec<Reference>,
}

/// What the archive holds, by cleaned path.
#[derive(Default)]
pub(super) struct Contents {
    pub documents: HashMap<Vec<u8>, Vec<u8>>,
    documents_size: u64,
    too_large: Vec<Vec<u8>>,
    layers: HashMap<Vec<u8>, Layer>,
    links: HashMap<Vec<u8>, Vec<u8>>,
}

enum Layer {
    Unpacking(Unpacking),
    Unpacked(UnpackedLayer),
    /// In the store already.
    Known(Digest),
    Failed(ImageError),
    /// Given to an image; its diff id.
    Taken(Digest),
}

impl Store {
    /// Loads every image of an archive (docker save or OCI layout, compressed or not). Of an image for several platforms it
    /// takes the one asked for, or all where they are all there, with what is attested of them, else the best for this machine. Nothing of a failed one stays.
    pub fn load(
        &self,
        archive: impl Read + Send,
        platform: Option<&Platform>,
        progress: Progress<'_>,
    ) -> Result<Vec<LoadedImage>, ImageError> {
        let mut contents = Contents::default();
        let (_, plain) = decompress(archive).map_err(TarError::from)?;
        let mut reader = TarReader::new(BufReader::with_capacity(BUFFER, plain));
        while let Some(entry) = reader.next_entry()? {
            let path = clean(&entry.path)?;
            match entry.kind {
                Kind::File => self.take(&mut contents, &mut reader, path, entry.size, progress)?,
                Kind::Symlink => {
                    let parent = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
                    let target = [&path[..parent], b"/", &entry.link].concat();
                    contents.links.insert(path, clean(&target)?);
                }
                Kind::HardLink => drop(contents.links.insert(path, clean(&entry.link)?)),
                _ => {}
            }
        }
        let mut loaded = Vec::new();
        for plan in plans(&contents, platform)? {
            loaded.push(self.load_one(&mut contents, plan, progress)?);
        }
        if platform.is_none() {
            self.load_sets(&mut contents)?;
        }
        Ok(loaded)
    }

    /// Looks at a file of the archive and keeps what an image may need.
    fn take<R: BufRead + Send>(
        &self,
        contents: &mut Contents,
        reader: &mut TarReader<R>,
        path: Vec<u8>,
        size: u64,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let mut payload = PayloadReader(reader);
        let mut head = Vec::with_capacity(HEAD);
        let count = (&mut payload).take(HEAD as u64).read_to_end(&mut head);
        count.map_err(TarError::from)?;
        let first = head.iter().find(|b| !b.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[')) {
            return contents.document(path, size, head, &mut payload);
        }
        if !is_layer(&head) {
            return Ok(());
        }
        if let Some(diff) = self.known_layer(&path) {
            contents.layers.insert(path, Layer::Known(diff));
            return Ok(());
        }
        contents.wait_for_writers()?;
        let stream = Counted {
            stream: io::Cursor::new(head).chain(payload),
            id: shown_id(&path),
            current: 0,
            told: 0,
            total: size,
            progress,
        };
        let unpacking = unpack(&self.layers, stream, self.limits)?;
        contents.layers.insert(path, Layer::Unpacking(unpacking));
        Ok(())
    }

    /// The layer whose plain or compressed digest a blob's name is, when the store has it: `blobs/sha256/<digest>`, or
    /// podman's and skopeo's `<digest>.tar`.
    fn known_layer(&self, path: &[u8]) -> Option<Digest> {
        let path = std::str::from_utf8(path).ok()?;
        let digits = path
            .strip_prefix("blobs/sha256/")
            .or_else(|| path.strip_suffix(".tar"))?;
        let name: Digest = format!("sha256:{digits}").parse().ok()?;
        let model = self.read();
        let mut layers = model.layers.values();
        let known =
            layers.find(|layer| !layer.damaged && (layer.diff == name || layer.blob == Some(name)));
        known.map(|layer| layer.diff)
    }

    /// Lets names that were loaded stand for all the images that they have in the archive.
    fn load_sets(&self, contents: &mut Contents) -> Result<(), ImageError> {
        for plan in set_plans(contents)? {
            let holder = Self::holder(self);
            for image in plan.images {
                self.load_image(contents, image, Some(holder.number()))?;
            }
            self.tag_set(&plan.set, &plan.name)?;
        }
        Ok(())
    }

    fn load_one(
        &self,
        contents: &mut Contents,
        plan: Plan,
        progress: Progress<'_>,
    ) -> Result<LoadedImage, ImageError> {
        let references = plan.references.clone();
        let committed = self.load_image(contents, plan, None)?;
        for (reference, old) in &committed.renamed {
            progress(LoadEvent::Message(format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string",
                reference.familiar()
            )));
        }
        for reference in &references {
            let name = reference.familiar();
            progress(LoadEvent::Message(format!("Loaded image: {name}")));
        }
        let id = committed.image.id;
        if references.is_empty() {
            progress(LoadEvent::Message(format!("Loaded image ID: {id}")));
        }
        Ok(LoadedImage { id, references })
    }

    fn load_image(
        &self,
        contents: &mut Contents,
        plan: Plan,
        holder: Option<u64>,
    ) -> Result<Committed, ImageError> {
        let config = contents.config(&plan)?;
        let parsed = crate::store::parse_config(&config)?;
        let diffs = parsed.rootfs.diff_ids.unwrap_or_default();
        if diffs.len() != plan.layers.len() {
            return Err(ImageError::Archive(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                diffs.len(),
                plan.layers.len()
            )));
        }
        let mut layers = HashMap::new();
        for (path, diff) in plan.layers.iter().zip(&diffs) {
            let (have, layer) = contents.layer(path)?;
            if have != *diff {
                return Err(ImageError::Verification {
                    what: "layer",
                    want: diff.to_string(),
                    have: have.to_string(),
                });
            }
            layers.extend(layer.map(|layer| (have, Arc::new(layer))));
        }
        self.commit(NewImage {
            config,
            layers,
            parent: None,
            references: plan.references,
            manifest: plan.manifest,
            holder,
            ..NewImage::default()
        })
    }
}

impl Contents {
    fn document(
        &mut self,
        path: Vec<u8>,
        size: u64,
        mut bytes: Vec<u8>,
        rest: &mut impl Read,
    ) -> Result<(), ImageError> {
        if size > DOCUMENT_MAX {
            self.too_large.push(path);
            return Ok(());
        }
        self.documents_size += size;
        if self.documents_size > DOCUMENTS_MAX {
            let text = format!("more than {DOCUMENTS_MAX} bytes of JSON");
            return Err(TarError::Limit(text).into());
        }
        rest.read_to_end(&mut bytes).map_err(TarError::from)?;
        self.documents.insert(path, bytes);
        Ok(())
    }

    /// Lets at most as many layers be written at once as there are processors.
    fn wait_for_writers(&mut self) -> Result<(), ImageError> {
        let most = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let active = |layer: &&mut Layer| matches!(layer, Layer::Unpacking(unpacking) if !unpacking.is_finished());
        let active: Vec<_> = self.layers.values_mut().filter(active).collect();
        if active.len() >= most {
            for layer in active {
                layer.finish();
            }
        }
        Ok(())
    }

    /// The path behind links of the archive.
    fn target<'a>(&'a self, path: &'a [u8]) -> &'a [u8] {
        let mut path = path;
        for _ in 0..8 {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    /// A JSON document of the archive.
    pub(super) fn get(&self, path: &[u8]) -> Result<&[u8], ImageError> {
        let path = self.target(path);
        let shown = String::from_utf8_lossy(path);
        if let Some(bytes) = self.documents.get(path) {
            return Ok(bytes);
        }
        if self.has_large(path) {
            let text = format!("/{shown} is larger than {DOCUMENT_MAX} bytes");
            return Err(ImageError::Archive(text));
        }
        let text = format!("open /{shown}: no such file or directory");
        Err(ImageError::Archive(text))
    }

    /// Whether the archive holds a document or a layer of that path.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let path = self.target(path);
        self.documents.contains_key(path) || self.layers.contains_key(path)
    }

    /// Whether the archive holds a document of that path that is beyond the limit.
    pub(super) fn has_large(&self, path: &[u8]) -> bool {
        self.too_large.iter().any(|one| one == path)
    }

    pub(super) fn config(&self, plan: &Plan) -> Result<Vec<u8>, ImageError> {
        let bytes = self.get(&plan.config)?;
        let have = digest(bytes);
        match plan.config_digest {
            Some(want) if want != have => Err(ImageError::Verification {
                what: "config",
                want: want.to_string(),
                have: have.to_string(),
            }),
            _ => Ok(bytes.to_vec()),
        }
    }

    /// The layer at a path: its diff id, and the layer itself unless the store or another image has it.
    fn layer(&mut self, path: &[u8]) -> Result<(Digest, Option<UnpackedLayer>), ImageError> {
        let path = self.target(path).to_vec();
        let named: Option<Digest> = path.strip_prefix(b"blobs/sha256/").and_then(|digits| {
            format!("sha256:{}", std::str::from_utf8(digits).ok()?)
                .parse()
                .ok()
        });
        let Some(layer) = self.layers.get_mut(&path) else {
            let shown = String::from_utf8_lossy(&path);
            let text = format!("open /{shown}: no such file or directory");
            return Err(ImageError::Archive(text));
        };
        layer.finish();
        match std::mem::replace(layer, Layer::Taken(Digest::from_bytes([0; 32]))) {
            Layer::Known(diff) | Layer::Taken(diff) => {
                *layer = Layer::Taken(diff);
                Ok((diff, None))
            }
            Layer::Unpacked(unpacked) => {
                *layer = Layer::Taken(unpacked.diff);
                if let Some(want) = named.filter(|want| *want != unpacked.blob) {
                    return Err(ImageError::Verification {
                        what: "blob",
                        want: want.to_string(),
                        have: unpacked.blob.to_string(),
                    });
                }
                Ok((unpacked.diff, Some(unpacked)))
            }
            Layer::Failed(error) => Err(error),
            Layer::Unpacking(_) => Err(TarError::UnexpectedEof.into()),
        }
    }
}

impl Layer {
    fn finish(&mut self) {
        if matches!(self, Self::Unpacking(_)) {
            let taken = std::mem::replace(self, Self::Taken(Digest::from_bytes([0; 32])));
            if let Self::Unpacking(unpacking) = taken {
                *self = match unpacking.finish() {
                    Ok(unpacked) => Self::Unpacked(unpacked),
                    Err(error) => Self::Failed(error),
                };
            }
        }
    }
}

fn is_layer(head: &[u8]) -> bool {
    if detect(head) != Compression::Plain {
        return true;
    }
    let Some(block) = head.first_chunk::<HEAD>() else {
        return false;
    };
    crate::tarball::is_header(block) || block.iter().all(|b| *b == 0)
}

/// `blobs/sha256/0123...` and `0123.../layer.tar` are shown as the first 12 digits.
fn shown_id(path: &[u8]) -> String {
    let path = path.strip_prefix(b"blobs/sha256/").unwrap_or(path);
    let part = path.split(|b| *b == b'/').next().unwrap_or(path);
    String::from_utf8_lossy(&part[..part.len().min(12)]).into_owned()
}

/// Tells how much of a layer has been read.
struct Counted<'a, R> {
    stream: R,
    id: String,
    current: u64,
    told: u64,
    total: u64,
    progress: Progress<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.current += count as u64;
        if self.current >= self.told + STEP || (self.current == self.total && count > 0) {
            self.told = self.current;
            (self.progress)(LoadEvent::Layer {
                id: self.id.clone(),
                current: self.current,
                total: self.total,
            });
        }
        Ok(count)
    }
}
