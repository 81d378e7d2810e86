//! Finding, listing and naming images.

use std::sync::Arc;

use cais_state::Durability;
use cais_types::oci::ImageSet;
use cais_types::reference::AnyReference;
use cais_types::{Digest, Reference};

use crate::error::ImageError;
use crate::model::{IMAGES, Image, ImageRecord, Model, NamedImage, REFERENCES, SETS};
use crate::store::{Store, by_image};

/// One line of an image's history, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// `<missing>` for all but images this store has.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    pub comment: String,
    /// Bytes in files.
    pub size: u64,
    pub tags: Vec<String>,
}

/// What images take on disk.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes in files of all layers, each once.
    pub layers: u64,
    /// For each image the bytes it shares with others.
    pub shared: Vec<(Digest, u64)>,
}

impl Model {
    /// Finds an image by name, id or unique start of an id.
    pub fn find(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        let missing = |shown: String| ImageError::NoSuchImage(shown);
        let named = match text.parse::<AnyReference>()? {
            AnyReference::Id(digits) => {
                let id: Option<Digest> = format!("sha256:{digits}").parse().ok();
                let image = id.and_then(|id| self.images.get(&id));
                return image.cloned().ok_or_else(|| missing(text.to_owned()));
            }
            AnyReference::Named(named) => named.with_default_tag(),
        };
        let id = self
            .references
            .get(&named)
            .or_else(|| self.by_digest_only(&named));
        if let Some(image) = id.and_then(|id| self.images.get(id)) {
            return Ok(image.clone());
        }
        match self.by_prefix(text)? {
            Some(image) => Ok(image),
            None => Err(missing(named.familiar())),
        }
    }

    /// `name:tag@digest` is looked up as `name@digest`.
    fn by_digest_only(&self, named: &Reference) -> Option<&Digest> {
        let digest = named.digest()?;
        let only = named.with_digest(digest).ok()?;
        self.references.get(&only)
    }

    fn by_prefix(&self, text: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if prefix.is_empty() || !prefix.bytes().all(hex) {
            return Ok(None);
        }
        let mut matching = self
            .images
            .values()
            .filter(|image| image.id.hex().starts_with(prefix));
        let first = matching.next();
        if first.is_some() && matching.next().is_some() {
            let text = format!("ambiguous image id prefix: {prefix}");
            return Err(ImageError::Invalid(text));
        }
        Ok(first.cloned())
    }
}

impl Store {
    /// Finds an image by name, id or unique start of an id; else `No such image: NAME`.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        self.read().find(text)
    }

    /// The same with its names.
    pub fn inspect(&self, text: &str) -> Result<NamedImage, ImageError> {
        let model = self.read();
        let image = model.find(text)?;
        Ok(model.named(&image))
    }

    /// All images with their names, newest first; images that are only a step of another one, or one of several
    /// behind a name, are left out unless `all` is set.
    pub fn list(&self, all: bool) -> Vec<NamedImage> {
        let model = self.read();
        let mut references = by_image(&model.references);
        let mut parents: std::collections::HashSet<_> = model
            .images
            .values()
            .filter_map(|image| image.parent)
            .collect();
        parents.extend(model.sets.values().flatten().copied());
        let mut images: Vec<_> = model
            .images
            .values()
            .map(|image| NamedImage {
                image: image.clone(),
                references: references.remove(&image.id).unwrap_or_default(),
            })
            .filter(|one| all || !one.references.is_empty() || !parents.contains(&one.image.id))
            .collect();
        images.sort_by(|a, b| {
            let newest = b.image.created.cmp(&a.image.created);
            newest.then_with(|| a.image.id.cmp(&b.image.id))
        });
        images
    }

    /// Gives an image, or what a name stands for, another name; answers what the name stood for before.
    pub fn tag(&self, text: &str, name: &Reference) -> Result<Option<Digest>, ImageError> {
        let name = name.clone().with_default_tag();
        let _changing = self.changing();
        let image = self.resolve(text)?;
        let set = match text.parse::<Reference>() {
            Ok(from) => self.set(&from.with_default_tag())?,
            Err(_) => None,
        };
        self.give_name(&image, &name, set.as_ref())
    }

    /// Gives a name to an image and to what it stands for besides, in one change; the caller holds [`Store::changing`].
    pub(crate) fn give_name(
        &self,
        image: &Image,
        name: &Reference,
        set: Option<&ImageSet>,
    ) -> Result<Option<Digest>, ImageError> {
        let tagged = jiff::Timestamp::now().to_string();
        let record = ImageRecord {
            tagged: Some(tagged.clone()),
            ..image.record()
        };
        let key = name.to_string();
        self.db.transaction(Durability::Process, |changes| {
            changes.put(REFERENCES, &key, &image.id)?;
            match set {
                Some(set) => changes.put(SETS, &key, set)?,
                None => changes.delete(SETS, &key)?,
            }
            changes.put(IMAGES, &image.id.hex(), &record)
        })?;
        let mut model = self.write();
        let mut renewed = Image::clone(image);
        renewed.tagged = Some(tagged);
        model.images.insert(image.id, Arc::new(renewed));
        match set {
            Some(set) => {
                let members = set.members.iter().map(|one| one.image).collect();
                model.sets.insert(name.clone(), members);
            }
            None => drop(model.sets.remove(name)),
        }
        Ok(model.references.insert(name.clone(), image.id))
    }

    /// The history of an image, newest step first.
    pub fn history(&self, text: &str) -> Result<Vec<HistoryLine>, ImageError> {
        let image = self.resolve(text)?;
        let config = self.config(&image.id)?;
        let model = self.read();
        let mut layers = image.chain.iter();
        let mut lines: Vec<_> = config
            .history
            .unwrap_or_default()
            .into_iter()
            .map(|step| {
                let layer = if step.empty_layer {
                    None
                } else {
                    layers.next()
                };
                let layer = layer.and_then(|chain| model.layers.get(chain));
                HistoryLine {
                    id: "<missing>".to_owned(),
                    created: step.created_seconds(),
                    size: layer.map_or(0, |layer| layer.size),
                    created_by: step.created_by.unwrap_or_default(),
                    comment: step.comment.unwrap_or_default(),
                    tags: Vec::new(),
                }
            })
            .collect();
        lines.reverse();
        // The newest step is the image itself, and its parent's newest step is the parent, as far as they are known.
        let mut next = Some(image);
        for line in &mut lines {
            let Some(own) = next else { break };
            line.id = own.id.to_string();
            line.tags = model.named(&own).tags();
            next = own.parent.and_then(|id| model.images.get(&id).cloned());
        }
        Ok(lines)
    }

    /// What images take on disk.
    pub fn disk_usage(&self) -> DiskUsage {
        let model = self.read();
        let mut users = std::collections::HashMap::new();
        for layer in model.images.values().flat_map(|image| &image.chain) {
            *users.entry(*layer).or_insert(0_u32) += 1;
        }
        let size = |layer: &Digest| model.layers.get(layer).map_or(0, |layer| layer.size);
        let shared = |image: &Arc<Image>| {
            let shared = image.chain.iter().filter(|layer| users[*layer] > 1);
            (image.id, shared.map(size).sum())
        };
        DiskUsage {
            layers: model.layers.values().map(|layer| layer.size).sum(),
            shared: model.images.values().map(shared).collect(),
        }
    }
}
