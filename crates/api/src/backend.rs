//! What the routers need from the engine: one small trait per noun, in wire models and query sets of `cais_types::api`.
//! The composition root fills them; nothing here knows what is behind.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use cais_types::api::query::{
    AttachQuery, BuildPruneQuery, BuildQuery, CommitQuery, ContainerListQuery, EventsQuery,
    Filters, ImageListQuery, ImageRemoveQuery, ImportQuery, LogsQuery, PullQuery, PushQuery,
    RemoveQuery, SearchQuery, StatsQuery, StopQuery, TtySize, WaitCondition,
};
use cais_types::api::{
    AuthConfig, AuthResponse, BuildPruneResponse, ContainerConfig, ContainerCreateRequest,
    ContainerCreateResponse, ContainerInspect, ContainerPruneResponse, ContainerStats,
    ContainerSummary, ContainerTopResponse, ContainerUpdateRequest, ContainerUpdateResponse,
    ContainerWaitResponse, DiskUsage, DistributionInspect, EventMessage, ExecCreateRequest,
    ExecCreateResponse, ExecInspect, ExecStartRequest, FilesystemChange, HistoryItem,
    ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary, Network,
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworkPruneResponse, SearchResult, SystemInfo, SystemVersion, Volume, VolumeCreateRequest,
    VolumeListResponse, VolumePruneResponse,
};
use cais_types::oci::Platform;
use cais_types::{ClientConnection, Framing, Result};
use futures_core::{Stream, future::BoxFuture};

/// A stream of answers, each of which may fail.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Bytes that arrive with a request body.
pub type Upload = Answers<Bytes>;

/// Whether a request changed anything; `Unchanged` answers 304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The state is now as asked.
    Changed,
    /// The state was so already.
    Unchanged,
}

/// A checked attach or exec that only waits for the client's connection.
pub struct Hijack {
    /// How output is laid on the connection; decides the answer's content type.
    pub framing: Framing,
    /// Takes the connection after the HTTP answer is written; ends once the connection is handed over.
    pub serve: Box<dyn FnOnce(ClientConnection) -> BoxFuture<'static, Result<()>> + Send>,
}

/// A container's log, ready to be sent.
pub struct Logs {
    /// Decides the content type.
    pub framing: Framing,
    /// Framed (or raw) bytes.
    pub bytes: Answers<Bytes>,
}

/// `/containers`, except exec.
#[async_trait]
pub trait Containers: Send + Sync {
    async fn list(&self, query: ContainerListQuery) -> Result<Vec<ContainerSummary>>;
    async fn create(
        &self,
        name: Option<String>,
        platform: Option<Platform>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse>;
    async fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect>;
    async fn start(&self, name: &str, detach_keys: Option<String>) -> Result<Changed>;
    async fn stop(&self, name: &str, query: StopQuery) -> Result<Changed>;
    async fn restart(&self, name: &str, query: StopQuery) -> Result<()>;
    async fn kill(&self, name: &str, signal: Option<String>) -> Result<()>;
    async fn pause(&self, name: &str) -> Result<()>;
    async fn unpause(&self, name: &str) -> Result<()>;
    async fn rename(&self, name: &str, new_name: &str) -> Result<()>;
    async fn resize(&self, name: &str, size: TtySize) -> Result<()>;
    async fn update(
        &self,
        name: &str,
        request: ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse>;
    async fn remove(&self, name: &str, query: RemoveQuery) -> Result<()>;
    async fn prune(&self, filters: Filters) -> Result<ContainerPruneResponse>;
    /// Checks the name at once; the inner future ends when the condition holds.
    async fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, Result<ContainerWaitResponse>>>;
    async fn top(&self, name: &str, ps_args: Option<String>) -> Result<ContainerTopResponse>;
    async fn changes(&self, name: &str) -> Result<Option<Vec<FilesystemChange>>>;
    async fn logs(&self, name: &str, query: LogsQuery) -> Result<Logs>;
    async fn stats(&self, name: &str, query: StatsQuery) -> Result<Answers<ContainerStats>>;
    async fn attach(&self, name: &str, query: AttachQuery) -> Result<Hijack>;
    /// The container's file system as a tar stream.
    async fn export(&self, name: &str) -> Result<Answers<Bytes>>;
}

/// `/containers/{id}/exec` and `/exec`.
#[async_trait]
pub trait Execs: Send + Sync {
    async fn create(
        &self,
        container: &str,
        request: ExecCreateRequest,
    ) -> Result<ExecCreateResponse>;
    /// Attached start; the process begins when the connection is served.
    async fn start_attached(&self, id: &str, request: ExecStartRequest) -> Result<Hijack>;
    async fn start_detached(&self, id: &str) -> Result<()>;
    async fn inspect(&self, id: &str) -> Result<ExecInspect>;
    async fn resize(&self, id: &str, size: TtySize) -> Result<()>;
}

/// `/images`.
#[async_trait]
pub trait Images: Send + Sync {
    async fn list(&self, query: ImageListQuery) -> Result<Vec<ImageSummary>>;
    async fn inspect(&self, name: &str, platform: Option<Platform>) -> Result<ImageInspect>;
    async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryItem>>;
    async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()>;
    async fn remove(&self, name: &str, query: ImageRemoveQuery) -> Result<Vec<ImageDeleteItem>>;
    async fn prune(&self, filters: Filters) -> Result<ImagePruneResponse>;
    /// One JSON progress line (without the line end) per item, as docker load prints them.
    async fn load(
        &self,
        archive: Upload,
        quiet: bool,
        platform: Option<Platform>,
    ) -> Result<Answers<Bytes>>;
    async fn save(&self, names: Vec<String>, platform: Option<Platform>) -> Result<Answers<Bytes>>;
    /// `GET /cais/images/{name}/tree`; the image's file system as a tar stream.
    async fn tree(&self, name: String, directory: String) -> Result<Answers<Bytes>>;
    /// `POST /images/create?fromSrc=-`; JSON progress lines.
    async fn import(&self, query: ImportQuery, archive: Upload) -> Result<Answers<Bytes>>;
    /// `POST /cais/system/check`; one JSON line per item.
    async fn check(&self, repair: bool) -> Result<Answers<Bytes>>;
    /// `POST /commit`; the id of the new image.
    async fn commit(&self, query: CommitQuery, config: Option<ContainerConfig>) -> Result<String>;
}

/// Registries: pull, push, `/images/search`, `/auth` and `/distribution`.
#[async_trait]
pub trait Registries: Send + Sync {
    /// One JSON progress line (without the line end) per item; what fails before the first fails the call. Dropping the lines
    /// ends the pull.
    async fn pull(&self, query: PullQuery) -> Result<Answers<Bytes>>;
    /// As `pull`.
    async fn push(&self, query: PushQuery) -> Result<Answers<Bytes>>;
    async fn search(&self, query: SearchQuery) -> Result<Vec<SearchResult>>;
    async fn login(&self, auth: AuthConfig) -> Result<AuthResponse>;
    async fn distribution(
        &self,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect>;
}

/// `/build`.
#[async_trait]
pub trait Builds: Send + Sync {
    /// Reads the context and the Dockerfile; the answer is what the build has to say, JSON messages with line ends.
    async fn build(&self, query: BuildQuery, context: Upload) -> Result<Answers<Bytes>>;
    /// Takes the connection of a client that serves secrets and agents to its builds, over HTTP/2.
    async fn session(&self, id: String) -> Result<Hijack>;
    /// Ends the builds that were given this id.
    fn cancel(&self, id: &str);
    /// The files of a cache mount as a tar stream, by its id.
    async fn export_cache(&self, id: String) -> Result<Answers<Bytes>>;
    /// Puts the files of an archive in the place of those of a cache mount.
    async fn import_cache(&self, id: String, archive: Upload) -> Result<()>;
    /// Removes records of the cache, the least recently used first.
    async fn prune(&self, query: BuildPruneQuery) -> Result<BuildPruneResponse>;
}

/// `/volumes`.
#[async_trait]
pub trait Volumes: Send + Sync {
    async fn list(&self, filters: Filters) -> Result<VolumeListResponse>;
    async fn create(&self, request: VolumeCreateRequest) -> Result<Volume>;
    async fn inspect(&self, name: &str) -> Result<Volume>;
    async fn remove(&self, name: &str, force: bool) -> Result<()>;
    async fn prune(&self, filters: Filters) -> Result<VolumePruneResponse>;
}

/// `/networks`.
#[async_trait]
pub trait Networks: Send + Sync {
    async fn list(&self, filters: Filters) -> Result<Vec<Network>>;
    async fn inspect(&self, name: &str, verbose: bool) -> Result<Network>;
    async fn create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse>;
    async fn remove(&self, name: &str) -> Result<()>;
    async fn connect(&self, name: &str, request: NetworkConnectRequest) -> Result<()>;
    async fn disconnect(&self, name: &str, request: NetworkDisconnectRequest) -> Result<()>;
    async fn prune(&self, filters: Filters) -> Result<NetworkPruneResponse>;
}

/// `/info`, `/version`, `/events`, `/system/df`.
#[async_trait]
pub trait System: Send + Sync {
    async fn info(&self) -> Result<SystemInfo>;
    async fn version(&self) -> Result<SystemVersion>;
    async fn disk_usage(&self, types: Vec<String>) -> Result<DiskUsage>;
    async fn events(&self, query: EventsQuery) -> Result<Answers<EventMessage>>;
}

/// All of them, as the server holds them.
#[derive(Clone)]
pub struct Backends {
    pub containers: std::sync::Arc<dyn Containers>,
    pub execs: std::sync::Arc<dyn Execs>,
    pub images: std::sync::Arc<dyn Images>,
    pub registries: std::sync::Arc<dyn Registries>,
    pub builds: std::sync::Arc<dyn Builds>,
    pub volumes: std::sync::Arc<dyn Volumes>,
    pub networks: std::sync::Arc<dyn Networks>,
    pub system: std::sync::Arc<dyn System>,
}
