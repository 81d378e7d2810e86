//! Names that stand for images of several platforms, or for an image with what is attested of it. Such a name leads to one of
//! the images, the best for this machine, wherever nobody asks for another platform; the index itself is made anew whenever
//! it is saved or pushed, as its manifests depend on how layers are compressed there.

use std::sync::Arc;

use cais_state::{Changes, Durability, StateError};
use cais_types::oci::{ImageSet, Platform};
use cais_types::{Digest, Reference};

use crate::deletion::{ImageUser, RemoveOptions, Removed};
use crate::error::ImageError;
use crate::model::{Image, Model, NamedImage, SETS};
use crate::store::Store;

impl Model {
    /// Whether a name that leads to another image needs this one as well.
    pub(crate) fn is_member(&self, image: &Digest) -> bool {
        self.sets.iter().any(|(name, members)| {
            members.contains(image) && self.references.get(name) != Some(image)
        })
    }

    /// The images of a name besides the one it leads to.
    fn others_of(&self, name: &Reference) -> Vec<Digest> {
        let main = self.references.get(name);
        let members = self.sets.get(name).into_iter().flatten();
        members.filter(|id| Some(*id) != main).copied().collect()
    }

    /// The image of a name that serves best where `wanted` is.
    fn member_for(&self, text: &str, wanted: &Platform) -> Option<Arc<Image>> {
        let name = text.parse::<Reference>().ok()?.with_default_tag();
        let members = self.sets.get(&name)?.iter();
        let images = members.filter_map(|id| self.images.get(id));
        let fitting = images.filter_map(|image| Some((wanted.fit(&image.platform())?, image)));
        let best = fitting.min_by_key(|(rank, _)| *rank);
        best.map(|(_, image)| image.clone())
    }

    /// The same as [`Model::find`], of several platforms the one that is wanted.
    pub(crate) fn find_for(
        &self,
        text: &str,
        wanted: Option<&Platform>,
    ) -> Result<Arc<Image>, ImageError> {
        if let Some(image) = wanted.and_then(|wanted| self.member_for(text, wanted)) {
            return Ok(image);
        }
        let image = self.find(text)?;
        image.check_platform(text, wanted)?;
        Ok(image)
    }
}

impl Store {
    /// Finds an image as [`Store::resolve`] does; of several platforms the one that is wanted, else
    /// `does not provide the specified platform`.
    pub fn resolve_for(
        &self,
        text: &str,
        wanted: Option<&Platform>,
    ) -> Result<Arc<Image>, ImageError> {
        self.read().find_for(text, wanted)
    }

    /// The same with its names.
    pub fn inspect_for(
        &self,
        text: &str,
        wanted: Option<&Platform>,
    ) -> Result<NamedImage, ImageError> {
        let model = self.read();
        let image = model.find_for(text, wanted)?;
        Ok(model.named(&image))
    }

    /// Gives several images one name; answers which of them it leads to.
    pub fn tag_set(&self, set: &ImageSet, name: &Reference) -> Result<Digest, ImageError> {
        let name = name.clone().with_default_tag();
        let _changing = self.changing();
        let main = self.main_of(set)?;
        self.give_name(&main, &name, Some(set))?;
        Ok(main.id)
    }

    /// Takes the images of these platforms out of what a name stands for; false where no other is left, or where it stands for
    /// one image.
    pub fn remove_platforms(
        &self,
        text: &str,
        platforms: &[Platform],
        users: &[ImageUser],
        removed: &mut Vec<Removed>,
    ) -> Result<bool, ImageError> {
        let name = text.parse::<Reference>()?.with_default_tag();
        let Some(mut set) = self.set(&name)? else {
            return Ok(false);
        };
        let mut gone = Vec::new();
        for platform in platforms {
            gone.push(self.resolve_for(text, Some(platform))?.id);
        }
        set.members.retain(|member| !gone.contains(&member.image));
        if set.members.is_empty() {
            return Ok(false);
        }
        self.tag_set(&set, &name)?;
        let _changing = self.changing();
        let options = RemoveOptions {
            force: false,
            prune_parents: true,
        };
        self.delete_unneeded(&gone, options, users, removed)?;
        Ok(true)
    }

    /// The image of a set that is the best for this machine, else the first; all of them must be there.
    fn main_of(&self, set: &ImageSet) -> Result<Arc<Image>, ImageError> {
        let (model, host) = (self.read(), Platform::host());
        let image = |id: &Digest| {
            let image = model.images.get(id).cloned();
            image.ok_or_else(|| ImageError::NoSuchImage(id.to_string()))
        };
        let images = set.members.iter().map(|one| image(&one.image));
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let fit = |image: &Arc<Image>| host.fit(&image.platform()).unwrap_or(u32::MAX);
        let best = images.into_iter().min_by_key(fit);
        best.ok_or_else(|| ImageError::Invalid("a set without images".to_owned()))
    }

    /// The images that a name stands for; none for a name of one image as it is.
    pub fn set(&self, name: &Reference) -> Result<Option<ImageSet>, ImageError> {
        if !self.read().sets.contains_key(name) {
            return Ok(None);
        }
        Ok(self.db.get(SETS, &name.to_string())?)
    }

    /// Whether a name that leads to another image needs this one as well.
    pub fn is_member(&self, image: &Digest) -> bool {
        self.read().is_member(image)
    }

    /// Images that have no name of their own and that none of these names will need any more.
    pub(crate) fn others_of(&self, names: &[Reference]) -> Vec<Digest> {
        let model = self.read();
        names
            .iter()
            .flat_map(|name| model.others_of(name))
            .collect()
    }

    /// Deletes those of these images that nothing needs; the caller holds [`Store::changing`].
    pub(crate) fn delete_unneeded(
        &self,
        images: &[Digest],
        options: RemoveOptions,
        users: &[ImageUser],
        removed: &mut Vec<Removed>,
    ) -> Result<(), ImageError> {
        let options = RemoveOptions {
            force: false,
            ..options
        };
        for id in images {
            let Some(image) = self.read().images.get(id).cloned() else {
                continue;
            };
            match self.delete_with_parents(&image, options, users, removed) {
                // Something needs it.
                Ok(()) | Err(ImageError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the names that stand for several images; one whose images are not all there stands for one.
    pub(crate) fn restore_sets(&self, model: &mut Model) -> Result<(), ImageError> {
        for (key, set) in self.db.all::<ImageSet>(SETS)? {
            let members: Vec<Digest> = set.members.iter().map(|one| one.image).collect();
            let name = key.parse::<Reference>().ok();
            let leads = name.as_ref().and_then(|name| model.references.get(name));
            let whole = leads.is_some_and(|main| members.contains(main))
                && members.iter().all(|id| model.images.contains_key(id));
            match name {
                Some(name) if whole => drop(model.sets.insert(name, members)),
                _ => self.db.delete(Durability::Process, SETS, &key)?,
            }
        }
        Ok(())
    }
}

/// Forgets what names stood for besides the images they are given to now.
pub fn forget_sets(changes: &Changes<'_>, names: &[Reference]) -> Result<(), StateError> {
    names
        .iter()
        .try_for_each(|name| changes.delete(SETS, &name.to_string()))
}
