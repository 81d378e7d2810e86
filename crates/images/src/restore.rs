//! Filling the memory at start, and sweeping what no record owns.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::Arc;

use cais_state::Durability;
use cais_types::{ContainerId, Digest};

use crate::error::ImageError;
use crate::layers::{DIFF, TEMPORARY};
use crate::model::{IMAGES, Image, ImageRecord, LAYERS, LayerRecord, Model, REFERENCES, USED};
use crate::store::{Store, describe, digest_of, parse_config};
use crate::tarball::export::sorted_names;

impl Store {
    /// Fills the memory from the database and the directories.
    pub(crate) fn restore(&self) -> Result<(), ImageError> {
        let mut model = Model::default();
        for (key, mut record) in self.db.all::<LayerRecord>(LAYERS)? {
            let Ok(chain) = digest_of(&key) else {
                self.db.delete(Durability::Process, LAYERS, &key)?;
                continue;
            };
            if !self.layers.path(&key).join(DIFF).is_dir() {
                // Its images stay, so that a pull or a load can mend them.
                tracing::warn!(layer = key, "the directory of a layer is missing");
                record.damaged = true;
            }
            model.layers.insert(chain, record);
        }
        self.settle_unsynced(&mut model)?;
        for (key, record) in self.db.all::<ImageRecord>(IMAGES)? {
            let image = digest_of(&key).and_then(|id| self.restore_image(&model, id, record));
            match image {
                Ok(image) => drop(model.images.insert(image.id, Arc::new(image))),
                Err(error) => {
                    tracing::warn!(image = key, %error, "an image is incomplete and is forgotten");
                    self.db.delete(Durability::Process, IMAGES, &key)?;
                }
            }
        }
        for (name, image) in self.db.all::<Digest>(REFERENCES)? {
            match name.parse() {
                Ok(reference) if model.images.contains_key(&image) => {
                    model.references.insert(reference, image);
                }
                _ => self.db.delete(Durability::Process, REFERENCES, &name)?,
            }
        }
        self.restore_sets(&mut model)?;
        for (key, used) in self.db.all::<i64>(USED)? {
            match digest_of(&key) {
                Ok(image) if model.images.contains_key(&image) => {
                    model.used.insert(image, used);
                }
                _ => self.db.delete(Durability::Process, USED, &key)?,
            }
        }
        model.containers = self.find_containers()?;
        self.sweep(&mut model)?;
        *self.write() = model;
        Ok(())
    }

    fn restore_image(
        &self,
        model: &Model,
        id: Digest,
        record: ImageRecord,
    ) -> Result<Image, ImageError> {
        let config = parse_config(&self.content.get(&id)?)?;
        describe(model, id, &config, record)
    }

    fn find_containers(&self) -> Result<HashMap<ContainerId, Option<Digest>>, ImageError> {
        let names = sorted_names(self.containers.as_fd());
        let names = names.map_err(|error| ImageError::io("readdir", "containers", error))?;
        let mut containers = HashMap::new();
        for name in names {
            let Some(id) = name.to_str().ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(chain) = crate::snapshot::read_lower(self.containers.as_fd(), &id) {
                containers.insert(id, chain);
            }
        }
        Ok(containers)
    }

    /// Deletes layers that nothing stands on and blobs that no image names.
    fn sweep(&self, model: &mut Model) -> Result<(), ImageError> {
        let mut used = HashSet::new();
        let tops = model.images.values().filter_map(|image| image.top());
        for top in tops.chain(model.containers.values().copied().flatten()) {
            used.extend(model.chain_down(Some(top)));
        }
        let unused: Vec<_> = model.layers.keys().copied().collect();
        for layer in unused.into_iter().filter(|layer| !used.contains(layer)) {
            self.db.delete(Durability::Process, LAYERS, &layer.hex())?;
            model.layers.remove(&layer);
        }
        for name in self.layers.names()? {
            let known = digest_of(&name).is_ok_and(|chain| model.layers.contains_key(&chain));
            if !known && name != crate::snapshot::NO_LAYERS && !name.starts_with(TEMPORARY) {
                self.layers.remove(&name)?;
            }
        }
        let images = model.images.values();
        let manifests: HashSet<_> = images
            .filter_map(|image| image.manifest.as_ref())
            .map(|manifest| manifest.digest)
            .collect();
        self.content.sweep(|name| {
            digest_of(name)
                .is_ok_and(|id| model.images.contains_key(&id) || manifests.contains(&id))
        })
    }
}
