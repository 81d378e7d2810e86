//! What the image service needs from the image store.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use cais_types::api::query::ImportQuery;
use cais_types::api::{
    CheckFinding, CheckSummary, HistoryItem, ImageConfig, ImageInspect, ImageSummary,
    ManifestSummary,
};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, Result};

/// A container that uses an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageUser {
    pub container: ContainerId,
    pub image: Digest,
    pub running: bool,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name, and the image it stood for with its labels.
    Untagged(String, Digest, BTreeMap<String, String>),
    /// An image.
    Deleted(Digest),
    /// A layer, by its chain id.
    Layer(Digest),
}

/// What loading an archive tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// A layer: 12 digits of its id, bytes done, bytes in all.
    Layer {
        id: String,
        current: u64,
        total: u64,
    },
    /// A line of the result.
    Message(String),
}

/// Which images are removed by themselves; none, when nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPolicy {
    /// Without use for that long, an image goes.
    pub max_age: Option<std::time::Duration>,
    /// Per cent of the disk in use from which on images go, the least recently used first, and down to which they do.
    pub watermarks: Option<(u8, u8)>,
    /// Patterns of names that stay, as `images --filter reference` has them.
    pub keep: Vec<String>,
}

/// What a commit makes of what was read of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitOrder {
    pub config: ImageConfig,
    pub author: String,
    pub comment: String,
    /// The container's command, for the history.
    pub created_by: String,
    /// `repo:tag`, when the image is to have a name.
    pub reference: Option<String>,
}

/// What a container has written, read and not yet an image; it makes the image.
pub type Seed = Box<dyn FnOnce(CommitOrder) -> Result<Digest> + Send>;

/// What the service needs from the image store. Blocking.
pub trait ImageCatalog: Send + Sync {
    /// Newest first, `Containers` -1 and shared sizes computed. Without `all` only images with a name or without a child.
    fn list(&self, all: bool) -> Result<Vec<ImageSummary>>;
    /// Takes, of several platforms, the one asked for, and refuses an image of another one.
    fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageInspect>;
    /// The manifests behind the first of these names that stands for an index; sizes and platforms, without containers.
    fn manifests(&self, names: &[String]) -> Result<Option<Vec<(Digest, ManifestSummary)>>>;
    fn history(&self, name: &str) -> Result<Vec<HistoryItem>>;
    /// Gives an image a name, `repo:tag`.
    fn tag(&self, name: &str, target: &str) -> Result<Digest>;
    /// Takes a name; the image stays.
    fn untag(&self, name: &str) -> Result<Vec<RemovedImage>>;
    fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        users: &[ImageUser],
    ) -> Result<Vec<RemovedImage>>;
    /// Takes the images of some platforms out of what a name stands for; none where no other is left of it.
    fn remove_platforms(
        &self,
        name: &str,
        platforms: &[Platform],
        users: &[ImageUser],
    ) -> Result<Option<Vec<RemovedImage>>>;
    /// Removes dangling images (all unused ones with `all`) that `accepts` (RFC 3339 of creation, labels); answers bytes freed.
    fn prune(
        &self,
        all: bool,
        users: &[ImageUser],
        accepts: &dyn Fn(&str, &BTreeMap<String, String>) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)>;
    /// Removes what the policy wants gone and `keep` (tags of an image) does not want; answers bytes freed.
    fn collect_garbage(
        &self,
        policy: &GcPolicy,
        users: &[ImageUser],
        keep: &dyn Fn(&[String]) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)>;
    /// The ids of the images in an archive; of an image for several platforms the one asked for is taken.
    fn load(
        &self,
        archive: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Vec<Digest>>;
    /// Of images of several platforms all are written, or the one that is wanted.
    fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        out: &mut (dyn Write + Send),
    ) -> Result<()>;
    fn import(&self, query: &ImportQuery, archive: &mut (dyn Read + Send)) -> Result<Digest>;
    /// Checks the name of a new image: `repo`, `repo:tag`; answers it with its tag.
    fn new_name(&self, repo: &str, tag: &str) -> Result<Option<String>>;
    /// Applies Dockerfile instructions to a configuration.
    fn apply_changes(&self, config: ImageConfig, changes: &[String]) -> Result<ImageConfig>;
    /// Reads what a container has written; nobody may write while this runs.
    fn read_container(&self, container: &ContainerId, image: &Digest) -> Result<Seed>;
    /// Looks whether the store is whole, and mends it with `repair`; tells findings as they come, from several threads.
    fn check(&self, repair: bool, found: &(dyn Fn(CheckFinding) + Sync)) -> Result<CheckSummary>;
    fn layers_size(&self) -> u64;
    fn count(&self) -> usize;
    /// The root of a container that does not run, as a mount that is attached nowhere.
    fn open_root(&self, container: &ContainerId, image: &Digest) -> Result<OwnedFd>;
    /// The root of an image, as a read-only mount that is attached nowhere.
    fn open_image_root(&self, image: &Digest) -> Result<OwnedFd>;
    /// Writes a tree as a tar stream, below a directory of this name if it has one.
    fn export(&self, root: BorrowedFd<'_>, directory: &str, out: &mut dyn Write) -> Result<()>;
}
