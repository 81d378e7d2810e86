//! Taking names from images and deleting images, by Docker's rules of what stands in the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_state::Durability;
use cais_types::{ContainerId, Digest, Reference};

use crate::error::ImageError;
use crate::model::{Image, REFERENCES};
use crate::set::forget_sets;
use crate::store::Store;

/// A container and the image it was made from.
#[derive(Clone, Copy, Debug)]
pub struct ImageUser {
    pub container: ContainerId,
    pub image: Digest,
    pub running: bool,
}

/// What a removal did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone: `busybox:latest`; with the image it stood for and its labels.
    Untagged(String, Digest, BTreeMap<String, String>),
    /// An image is gone.
    Image(Digest),
    /// A layer is gone, by its chain id.
    Layer(Digest),
}

/// How to remove.
#[derive(Clone, Copy, Debug)]
pub struct RemoveOptions {
    /// Soft conflicts do not count.
    pub force: bool,
    /// Parents without a name go as well.
    pub prune_parents: bool,
}

/// What pruning freed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// Bytes in files of the layers deleted.
    pub freed: u64,
}

/// Which conflicts are looked for.
#[derive(Clone, Copy)]
struct Checks {
    active_reference: bool,
    stopped_container: bool,
}

impl Store {
    /// Removes a name, or an image with its names; `users` are all containers.
    pub fn remove_image(
        &self,
        text: &str,
        options: RemoveOptions,
        users: &[ImageUser],
    ) -> Result<Vec<Removed>, ImageError> {
        let _changing = self.changing();
        let image = self.resolve(text)?;
        let references = self.read().references_of(&image.id);
        let mut removed = Vec::new();
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let by_id = !digits.is_empty() && image.id.hex().starts_with(digits);
        let others = self.others_of(&references);
        if by_id {
            if is_single(&references) {
                let checks = Checks {
                    active_reference: false,
                    stopped_container: !options.force,
                };
                self.check(&image, checks, users)?;
                self.untag(&image, &references, &mut removed)?;
            }
        } else {
            let last = self.remove_name(text, &image, options.force, users, &mut removed)?;
            if !last || self.is_held(&image.id) {
                self.delete_unneeded(&others, options, users, &mut removed)?;
                return Ok(removed);
            }
        }
        self.delete_with_parents(&image, options, users, &mut removed)?;
        self.delete_unneeded(&others, options, users, &mut removed)?;
        Ok(removed)
    }

    /// Takes a name; the image stays, and all that the name stood for.
    pub fn remove_name_only(&self, text: &str) -> Result<Vec<Removed>, ImageError> {
        let _changing = self.changing();
        let name = text.parse::<Reference>()?.with_default_tag();
        let image = self.resolve(text)?;
        let references = self.read().references_of(&image.id);
        if !references.contains(&name) {
            return Err(ImageError::NoSuchReference);
        }
        let mut removed = Vec::new();
        self.untag(&image, &going_with(name, references).0, &mut removed)?;
        Ok(removed)
    }

    /// Deletes images without a name (`all`: also images with names that no container uses) that `keep` does not want.
    pub fn prune_images(
        &self,
        all: bool,
        users: &[ImageUser],
        keep: impl Fn(&Image) -> bool,
    ) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        for one in self.list(true) {
            let used = users.iter().any(|user| user.image == one.image.id);
            let dangling = one.references.iter().all(|name| name.tag().is_none());
            if used || !(all || dangling) || keep(&one.image) {
                continue;
            }
            let named = |names: &[Reference]| names.iter().any(|name| name.tag().is_some());
            self.remove_unused(
                &one.image,
                users,
                |names| all || !named(names),
                true,
                &mut pruned,
            )?;
        }
        Ok(pruned)
    }

    /// Deletes those of these images that have no name, no container, and no image made from them but for others of these.
    pub fn prune_made(&self, images: &[Digest], users: &[ImageUser]) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        let mut left: Vec<Arc<Image>> = {
            let model = self.read();
            let known = images.iter().filter_map(|id| model.images.get(id).cloned());
            let used = |image: &Arc<Image>| users.iter().any(|user| user.image == image.id);
            known.filter(|image| !used(image)).collect()
        };
        // Children before their parents: each round takes those that have no more of them.
        loop {
            let (leaves, rest): (Vec<_>, Vec<_>) = left
                .into_iter()
                .partition(|image| !self.has_children(&image.id));
            if leaves.is_empty() {
                return Ok(pruned);
            }
            for image in leaves {
                self.remove_unused(&image, users, <[Reference]>::is_empty, false, &mut pruned)?;
            }
            left = rest;
        }
    }

    /// Removes an image with its names, if nothing was made from it and `wanted` still holds for the names it has now.
    pub(crate) fn remove_unused(
        &self,
        image: &Arc<Image>,
        users: &[ImageUser],
        wanted: impl Fn(&[Reference]) -> bool,
        prune_parents: bool,
        pruned: &mut Pruned,
    ) -> Result<(), ImageError> {
        let before = self.disk_usage().layers;
        let _changing = self.changing();
        let references = self.read().references_of(&image.id);
        let known = self.read().images.contains_key(&image.id);
        let needed =
            self.has_children(&image.id) || self.is_held(&image.id) || self.is_member(&image.id);
        if !known || !wanted(&references) || needed {
            return Ok(());
        }
        let others = self.others_of(&references);
        self.untag(image, &references, &mut pruned.removed)?;
        let options = RemoveOptions {
            force: false,
            prune_parents,
        };
        self.delete_with_parents(image, options, users, &mut pruned.removed)?;
        self.delete_unneeded(&others, options, users, &mut pruned.removed)?;
        pruned.freed += before.saturating_sub(self.disk_usage().layers);
        Ok(())
    }

    /// Takes one name; answers whether the image is to be deleted now.
    fn remove_name(
        &self,
        text: &str,
        image: &Arc<Image>,
        force: bool,
        users: &[ImageUser],
        removed: &mut Vec<Removed>,
    ) -> Result<bool, ImageError> {
        let references = self.read().references_of(&image.id);
        let user = users.iter().find(|user| user.image == image.id);
        if let (false, true, Some(user)) = (force, is_single(&references), user) {
            return Err(ImageError::Conflict(format!(
                "conflict: unable to remove repository reference {text:?} (must force) - \
                 container {} is using its referenced image {}",
                user.container.short(),
                image.id.short()
            )));
        }
        let name: Reference = text.parse()?;
        let name = name.with_default_tag();
        let name = match name.digest() {
            Some(digest) => name.with_digest(digest)?,
            None => name,
        };
        if !references.contains(&name) {
            return Err(ImageError::NoSuchReference);
        }
        let (gone, left) = going_with(name, references);
        self.untag(image, &gone, removed)?;
        Ok(left.is_empty())
    }

    fn untag(
        &self,
        image: &Arc<Image>,
        names: &[Reference],
        removed: &mut Vec<Removed>,
    ) -> Result<(), ImageError> {
        if names.is_empty() {
            return Ok(());
        }
        self.db
            .transaction_with_reserve(Durability::Process, |changes| {
                for name in names {
                    changes.delete(REFERENCES, &name.to_string())?;
                }
                forget_sets(changes, names)
            })?;
        let mut model = self.write();
        for name in names {
            model.references.remove(name);
            model.sets.remove(name);
            let labels = image.labels.clone();
            removed.push(Removed::Untagged(name.familiar(), image.id, labels));
        }
        Ok(())
    }

    pub(crate) fn delete_with_parents(
        &self,
        image: &Arc<Image>,
        options: RemoveOptions,
        users: &[ImageUser],
        removed: &mut Vec<Removed>,
    ) -> Result<(), ImageError> {
        let checks = Checks {
            active_reference: !options.force,
            stopped_container: !options.force,
        };
        self.check(image, checks, users)?;
        self.delete_one(image, removed)?;
        let mut parent = image.parent;
        while let (true, Some(id)) = (options.prune_parents, parent) {
            let Some(next) = self.read().images.get(&id).cloned() else {
                break;
            };
            let named = !self.read().references_of(&id).is_empty();
            if named || self.check(&next, checks, users).is_err() {
                break;
            }
            self.delete_one(&next, removed)?;
            parent = next.parent;
        }
        Ok(())
    }

    fn delete_one(&self, image: &Arc<Image>, removed: &mut Vec<Removed>) -> Result<(), ImageError> {
        let names = self.read().references_of(&image.id);
        self.untag(image, &names, removed)?;
        let layers = self.delete_image(image)?;
        removed.push(Removed::Image(image.id));
        removed.extend(layers.into_iter().map(Removed::Layer));
        Ok(())
    }

    fn has_children(&self, image: &Digest) -> bool {
        let model = self.read();
        model.images.values().any(|one| one.parent == Some(*image))
    }

    fn check(&self, image: &Image, checks: Checks, users: &[ImageUser]) -> Result<(), ImageError> {
        let Checks {
            active_reference,
            stopped_container,
        } = checks;
        let user = |running| {
            users
                .iter()
                .find(|user| user.image == image.id && user.running == running)
        };
        let short = image.id.short();
        let conflict = |force: &str, why: String| {
            let text = format!("conflict: unable to delete {short} ({force}) - {why}");
            Err(ImageError::Conflict(text))
        };
        if self.has_children(&image.id) {
            let why = "image has dependent child images";
            return conflict("cannot be forced", why.to_owned());
        }
        if self.is_held(&image.id) {
            let why = "image is being used by a running build";
            return conflict("cannot be forced", why.to_owned());
        }
        if self.is_member(&image.id) {
            let why = "image is one of several platforms of a name";
            return conflict("cannot be forced", why.to_owned());
        }
        if let Some(user) = user(true) {
            let container = user.container.short();
            let why = format!("image is being used by running container {container}");
            return conflict("cannot be forced", why);
        }
        if active_reference && !self.read().references_of(&image.id).is_empty() {
            let why = "image is referenced in multiple repositories";
            return conflict("must be forced", why.to_owned());
        }
        if let (true, Some(user)) = (stopped_container, user(false)) {
            let container = user.container.short();
            let why = format!("image is being used by stopped container {container}");
            return conflict("must be forced", why);
        }
        Ok(())
    }
}

/// The names that go with a name of an image, and those that are left.
fn going_with(name: Reference, references: Vec<Reference>) -> (Vec<Reference>, Vec<Reference>) {
    let left = references.into_iter().filter(|one| *one != name);
    let (mut same, mut left): (Vec<_>, Vec<_>) =
        left.partition(|one| one.name() == name.name() && name.digest().is_none());
    let mut gone = vec![name];
    // Without a tag left in this repository its digests have no use either.
    if same.iter().all(|one| one.tag().is_none()) {
        gone.append(&mut same);
    }
    left.append(&mut same);
    (gone, left)
}

/// At most one tag, and all names in one repository.
fn is_single(references: &[Reference]) -> bool {
    let Some(first) = references.first() else {
        return true;
    };
    let tags = references.iter().filter(|one| one.digest().is_none());
    tags.count() <= 1 && references.iter().all(|one| one.name() == first.name())
}
