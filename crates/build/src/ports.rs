//! What the builder needs from other rooms: small blocking traits, filled by the composition root.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use crate::dockerfile::Sharing;
use cais_types::api::ImageConfig;
use cais_types::oci::{ImageSet, Platform};
use cais_types::{ContainerId, Digest, Result};

use crate::cancel::Cancellation;
use crate::dockerfile::git_ref::GitRef;

/// An image that a stage begins with, or copies from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    pub id: Digest,
    pub config: ImageConfig,
    pub author: String,
    pub platform: Platform,
    /// The digest of the manifest it came with.
    pub manifest: Option<Digest>,
    /// Chain ids of its layers, lowest first.
    pub layers: Vec<Digest>,
}

/// An image about to be made on top of another.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// The image below; none for the first of a stage from `scratch`.
    pub parent: Option<Digest>,
    /// What wrote the new layer: a snapshot or a step's container. None changes the configuration only.
    pub layer: Option<ContainerId>,
    /// What it is for, where nothing is below it.
    pub platform: Platform,
    pub config: ImageConfig,
    pub author: String,
    /// The line of its history.
    pub created_by: String,
    /// When it was made, in seconds since 1970; now without it.
    pub created: Option<i64>,
    /// What the layer's files were changed after becomes this, in seconds since 1970.
    pub latest: Option<i64>,
}

/// What a name that is given as a cache has.
#[derive(Clone, Debug, Default)]
pub struct CacheSource {
    /// Images whose history may stand for steps.
    pub images: Vec<Digest>,
    /// Keys of steps that are in them, whatever the lines of their history leave out.
    pub keys: BTreeSet<String>,
}

/// Images, and writable trees on top of them.
pub trait ImageStore: Send + Sync {
    /// Finds an image of this host by reference, id or unique id prefix; for a platform, where one is asked for.
    fn find(&self, name: &str, platform: Option<&Platform>) -> Option<Digest>;
    /// What a name has as a cache; nothing where there is no such image.
    fn cache_source(&self, name: &str) -> CacheSource;
    /// The image of this id.
    fn image(&self, id: &Digest) -> Result<BaseImage>;
    /// Fetches an image from its registry, for this machine or another platform; `progress` gets JSON messages.
    fn pull(
        &self,
        name: &str,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Digest>;
    /// A writable tree on top of an image, or an empty one. [`ImageStore::discard`] ends it.
    fn snapshot(&self, image: Option<&Digest>) -> Result<(ContainerId, OwnedFd)>;
    /// The directory of what a snapshot changed, to be used when its tree is closed.
    fn upper(&self, snapshot: &ContainerId) -> Result<OwnedFd>;
    /// Ends a snapshot; one that was made a layer is no error.
    fn discard(&self, snapshot: &ContainerId) -> Result<()>;
    /// The tree of an image, read-only.
    fn root(&self, image: &Digest) -> Result<OwnedFd>;
    /// Makes an image. The layer's tree is taken over.
    fn commit(&self, image: NewImage) -> Result<Digest>;
    /// Makes an image of the layer that `source` got from the same step on top of the same history, if it has one; `files`
    /// is whether the step writes any, where that is asked.
    fn repeat(
        &self,
        image: NewImage,
        source: &Digest,
        files: Option<bool>,
    ) -> Result<Option<Digest>>;
    /// Makes an image that has the layers of one above a base as one layer; `created` as in [`NewImage`].
    fn squash(&self, image: &Digest, base: Option<&Digest>, created: Option<i64>)
    -> Result<Digest>;
    /// Gives an image a name.
    fn tag(&self, image: &Digest, name: &str) -> Result<()>;
    /// Gives several images one name.
    fn tag_set(&self, set: &ImageSet, name: &str) -> Result<()>;
    /// Whether a file is a tar archive, compressed or not.
    fn is_archive(&self, file: &File) -> Result<bool>;
    /// Unpacks an archive into a directory, whose links are followed within it only.
    fn unpack(&self, file: File, into: OwnedFd) -> Result<()>;
}

/// A command to run on top of an image.
#[derive(Clone, Debug, Default)]
pub struct RunStep {
    pub image: Option<Digest>,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    /// `default`, `none`, `host`, or what the build asked for.
    pub network: String,
    pub host: Host,
    pub mounts: Vec<StepMount>,
    /// The session of the client; empty without one.
    pub session: String,
    /// Set when the build is given up.
    pub canceled: Cancellation,
}

/// What the build asked for all its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub extra_hosts: Vec<String>,
    pub shm_size: i64,
    pub memory: i64,
    pub memory_swap: i64,
    pub cpu_shares: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub cgroup_parent: String,
    pub security_opt: Vec<String>,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, i64, i64)>,
}

/// Something a command sees in its tree that is no part of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepMount {
    /// A directory or file of the context.
    Context {
        source: OwnedPath,
        target: String,
        read_only: bool,
    },
    /// A path of a tree; what a command that may write changes is dropped when it ends.
    Tree {
        root: TreeRoot,
        path: String,
        target: String,
        read_only: bool,
    },
    /// A directory that outlives the build.
    Cache {
        id: String,
        /// The tree whose `path` a new cache begins with; without one `path` is below the cache.
        base: Option<TreeRoot>,
        path: String,
        target: String,
        read_only: bool,
        mode: u32,
        owner: (u32, u32),
        sharing: Sharing,
    },
    Tmpfs {
        target: String,
        size: i64,
    },
    /// What the client lends while the command runs.
    Loan {
        what: Loan,
        id: String,
        /// Where the command finds it; a secret may be in its environment only.
        target: Option<String>,
        /// Without it a command runs without what the client does not have.
        required: bool,
        mode: u32,
        owner: (u32, u32),
    },
}

/// What a client may lend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loan {
    /// Bytes, in a file of their own, and in this variable.
    Secret { env: Option<String> },
    /// A socket of an agent for SSH keys.
    Agent,
}

/// Where a tree that a command sees comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeRoot {
    Context(OwnedPath),
    Image(Digest),
}

/// A path on the host that was resolved below a root.
pub type OwnedPath = std::path::PathBuf;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: i64,
    /// Whose tree holds what it wrote.
    pub container: ContainerId,
}

/// Runs commands in containers.
pub trait Executor: Send + Sync {
    /// Runs a command to its end. `started` gets the container's id, `output` what it prints. Fails with `Canceled` when the
    /// client has gone or the build is given up.
    fn run(&self, step: RunStep, events: &mut dyn RunEvents) -> Result<Ran>;
    /// Removes a container that ran a command.
    fn discard(&self, container: &ContainerId) -> Result<()>;
}

/// What happens while a command runs.
pub trait RunEvents: Send {
    fn started(&mut self, container: &ContainerId) -> Result<()>;
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<()>;
}

/// Where a command printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Which image a step made, by the step's key.
pub trait CacheIndex: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<Digest>>;
    fn put(&self, key: &str, image: &Digest) -> Result<()>;
    /// Takes it upon oneself to make a step, until what is answered is dropped; `None` if another build does.
    fn claim(&self, key: &str) -> Option<Box<dyn Send>>;
    /// Waits until nobody makes a step. Fails with `Canceled` when the client has gone or the build is given up.
    fn wait(&self, key: &str, canceled: &Cancellation) -> Result<()>;
}

/// What is known of the files of a context from builds before. No file of it is ever written to again.
pub trait FileMemory: Send + Sync + Debug {
    /// The digest of the contents of a file.
    fn digest(&self, inode: u64) -> Option<Digest>;
    /// Remembers it.
    fn learn(&self, inode: u64, digest: Digest);
    /// The layers, by their chain ids, that have the file as theirs.
    fn layers(&self, inode: u64) -> Vec<Digest>;
    /// A layer has it now.
    fn give(&self, inode: u64, layer: Digest);
}

/// Files behind URLs.
pub trait Fetcher: Send + Sync {
    /// Writes what is behind a URL to a file.
    fn fetch(&self, url: &str, file: &File) -> Result<Fetched>;
    /// Fetches a repository into an empty directory; answers the directory in it that is wanted.
    fn checkout(&self, repository: &GitRef, into: &Path) -> Result<PathBuf>;
}

/// What a server says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub name: Option<String>,
    /// When it was changed, in seconds.
    pub time: Option<i64>,
}

/// All of them.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    pub images: &'a dyn ImageStore,
    pub executor: &'a dyn Executor,
    pub cache: &'a dyn CacheIndex,
    pub fetcher: &'a dyn Fetcher,
}
