//! What the engine needs from the rooms below: small blocking traits, filled by the composition root. Calls that may take
//! more than a few hundred microseconds are made from `spawn_blocking`.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cais_types::api::{ContainerConfig, EndpointSettings, FilesystemChange, PortBinding};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, NetworkId, Result};

/// An image as `create` needs it.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// Digest of the image configuration: Docker's image id.
    pub id: Digest,
    /// The `config` part of the image: Env, Cmd, Entrypoint, User, Volumes, ...
    pub config: ContainerConfig,
    /// What it runs on, as far as it says.
    pub platform: Platform,
}

/// The directories of an overlay mount. `lower` is ordered from the topmost layer down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDirs {
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// Images and the read/write layers of containers on top of them.
pub trait RootfsStore: Send + Sync {
    /// Finds an image by reference, id or unique id prefix, of several platforms the one that is wanted. Not found: `No such
    /// image: NAME`, or an image that is there for other platforms only.
    fn resolve(&self, image: &str, platform: Option<&Platform>) -> Result<ResolvedImage>;
    /// The id of an image, by the same rules and without reading it.
    fn find(&self, image: &str) -> Option<Digest> {
        self.resolve(image, None).ok().map(|image| image.id)
    }
    /// Makes the read/write layer of a container. The topmost lower layer holds the files and mount points that every
    /// container gets (`/.dockerenv`, `/etc/hosts`, `/dev/console`, `/proc`, ...), so that they never show in a diff.
    fn create(&self, container: &ContainerId, image: &Digest) -> Result<()>;
    /// The directories to mount for a container made by [`RootfsStore::create`].
    fn dirs(&self, container: &ContainerId, image: &Digest) -> Result<OverlayDirs>;
    /// Removes the read/write layer; a missing one is no error.
    fn remove(&self, container: &ContainerId) -> Result<()>;
    /// Bytes in the read/write layer and bytes of all layers together.
    fn usage(&self, container: &ContainerId, image: &Digest) -> Result<(u64, u64)>;
    /// What the read/write layer changed against the image, in path order.
    fn changes(&self, container: &ContainerId, image: &Digest) -> Result<Vec<FilesystemChange>>;
    /// Removes every read/write layer that is not in `known`; called once at start.
    fn retain(&self, known: &[ContainerId]) -> Result<()>;
}

/// Named volumes.
pub trait VolumeStore: Send + Sync {
    /// Makes a volume if it is missing and marks it used by the container. `name: None` makes an anonymous one with a
    /// 64-digit random name. Answers its name and its directory on the host.
    fn acquire(
        &self,
        name: Option<&str>,
        driver: &str,
        container: &ContainerId,
    ) -> Result<(String, PathBuf)>;
    /// Fills an empty volume from a directory of the image (contents, owner, mode, xattrs); a volume that has been
    /// used before, or is not empty, is left alone. `source` is an open directory of the container's root.
    fn copy_up(&self, name: &str, source: OwnedFd) -> Result<()>;
    /// Ends the use by a container; with `remove_anonymous` its anonymous volumes go as well.
    fn release(&self, container: &ContainerId, remove_anonymous: bool) -> Result<()>;
}

/// A port a container wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// `80/tcp`.
    pub container_port: String,
    /// Host addresses and ports wanted; an empty HostPort means any free one, `8000-8010` any free one of a range.
    pub bindings: Vec<PortBinding>,
}

/// Everything a network sandbox is made from.
#[derive(Clone, Debug)]
pub struct SandboxRequest {
    pub container: ContainerId,
    /// The container's name, for messages.
    pub name: String,
    /// Networks by name or id, and what the user asked of each endpoint. Empty means `none`: a sandbox with `lo` only.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    pub ports: Vec<PortRequest>,
    /// Sysctls below `net.` that must be set inside.
    pub sysctls: BTreeMap<String, String>,
    /// How the container wants names to be resolved.
    pub dns: DnsWish,
}

/// `--dns`, `--dns-search` and `--dns-option`; empty for the daemon's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsWish {
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// Takes a network namespace, which lives as long as somebody holds its descriptor or a process is in it.
pub type NamespaceMade = Box<dyn FnOnce(OwnedFd) + Send>;

/// A ready network sandbox.
#[derive(Debug)]
pub struct Sandbox {
    /// By network name, filled in (addresses, gateway, MAC, ids).
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What is published where, as `NetworkSettings.Ports` shows it: unpublished exposed ports are not in here.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
    /// A sysfs of its namespace. It is held until the container has mounted its own, which is quicker then.
    pub sysfs: Option<OwnedFd>,
}

/// What the engine must know of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    pub id: NetworkId,
    pub name: String,
    pub driver: String,
}

/// A running container whose networks change.
#[derive(Clone, Copy, Debug)]
pub struct LiveSandbox<'a> {
    pub container: &'a ContainerId,
    /// The container's name, for messages.
    pub name: &'a str,
    pub netns: BorrowedFd<'a>,
}

/// The network of a container that outlived a daemon.
#[derive(Clone, Debug, Default)]
pub struct KeptSandbox {
    /// By network name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What it does not have any more.
    pub gone: BTreeMap<String, EndpointSettings>,
    pub ports: BTreeMap<String, Vec<PortBinding>>,
}

/// Networks, as far as running a container goes.
pub trait SandboxStore: Send + Sync {
    /// Finds a network by name, id or unique id prefix; not found: `network NAME not found`.
    fn facts(&self, network: &str) -> Result<NetworkFacts>;
    /// Checks what is wanted of an endpoint on a network. Invalid: `invalid endpoint settings:...`.
    fn check(&self, network: &str, settings: &EndpointSettings) -> Result<NetworkFacts>;
    /// Puts a running container on one more network: all of it or nothing.
    fn connect(
        &self,
        live: &LiveSandbox<'_>,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings>;
    /// Takes a running container off a network.
    fn disconnect(&self, live: &LiveSandbox<'_>, network: &str) -> Result<()>;
    /// Takes away the endpoints of a running container that are not among those that its record knows (none: all are
    /// believed) or whose interface is missing.
    fn compare(
        &self,
        live: &LiveSandbox<'_>,
        known: &BTreeMap<String, EndpointSettings>,
    ) -> Result<KeptSandbox>;
    /// Makes the namespace with its interfaces, addresses, routes and published ports: all of it or nothing. `made` gets
    /// the namespace as soon as there is one, while nothing is in it.
    fn open(&self, request: &SandboxRequest, made: NamespaceMade) -> Result<Sandbox>;
    /// Releases addresses, ports and interfaces of a container; a missing sandbox is no error.
    fn close(&self, container: &ContainerId) -> Result<()>;
    /// Keeps the sandboxes of these running containers and releases all others; called once at start.
    fn retain(&self, running: &[ContainerId]) -> Result<()>;
    /// Brings the published ports of a running container in line with its wishes, all of it or nothing; what is named in
    /// `remove` goes first. Answers what is published then.
    fn republish(
        &self,
        container: &ContainerId,
        wanted: &[PortRequest],
        remove: &[PortRequest],
    ) -> Result<BTreeMap<String, Vec<PortBinding>>>;
    /// Serves the names of a running container again that outlived a daemon, from sockets in its namespace.
    fn adopt(&self, container: &ContainerId, name: &str, netns: BorrowedFd<'_>) -> Result<()>;
    /// The text of `/etc/resolv.conf` for a container on these networks; `host` for one in the host's namespace.
    fn resolv_conf(&self, networks: &[String], dns: &DnsWish) -> Result<String>;
    /// The address that `host-gateway` stands for.
    fn host_gateway(&self) -> Option<std::net::IpAddr>;
}
