//! The engine behind the API's traits: one line per operation.

use async_trait::async_trait;
use bytes::Bytes;
use cais_api::backend::{self, Answers, Backends, Changed, Hijack, Logs, Upload};
use cais_engine::{Containers, Engine, Execs};
use cais_services::images::Images;
use cais_services::networks::Networks;
use cais_services::registry::Registries;
use cais_services::system::System;
use cais_services::volumes::Volumes;
use cais_services::{stats, top};
use cais_types::Result;
use cais_types::api::query::{
    AttachQuery, CommitQuery, ContainerListQuery, EventsQuery, Filters, ImageListQuery,
    ImageRemoveQuery, ImportQuery, LogsQuery, PullQuery, PushQuery, RemoveQuery, SearchQuery,
    StatsQuery, StopQuery, TtySize, WaitCondition,
};
use cais_types::api::{
    AuthConfig, AuthResponse, ContainerConfig, ContainerCreateRequest, ContainerCreateResponse,
    ContainerInspect, ContainerPruneResponse, ContainerStats, ContainerSummary,
    ContainerTopResponse, ContainerUpdateRequest, ContainerUpdateResponse, ContainerWaitResponse,
    DiskUsage, DistributionInspect, EventMessage, ExecCreateRequest, ExecCreateResponse,
    ExecInspect, ExecStartRequest, FilesystemChange, HistoryItem, ImageDeleteItem, ImageInspect,
    ImagePruneResponse, ImageSummary, Network, NetworkConnectRequest, NetworkCreateRequest,
    NetworkCreateResponse, NetworkDisconnectRequest, NetworkPruneResponse, SearchResult,
    SystemInfo, SystemVersion, Volume, VolumeCreateRequest, VolumeListResponse,
    VolumePruneResponse,
};
use cais_types::oci::Platform;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The services that the API answers from.
pub struct Services {
    pub engine: Engine,
    pub images: Arc<Images>,
    pub registries: Arc<Registries>,
    pub volumes: Arc<Volumes>,
    pub networks: Arc<Networks>,
    pub system: Arc<System>,
}

impl Services {
    /// The same as the API's traits.
    pub fn backends(self, builds: super::build::BuildBackend) -> Backends {
        let build_cache = builds.records();
        Backends {
            containers: Arc::new(ContainerBackend {
                containers: self.engine.containers(),
                builds: builds.running.clone(),
                engine: self.engine.clone(),
                images: Arc::clone(&self.images),
            }),
            builds: Arc::new(builds),
            execs: Arc::new(ExecBackend(self.engine.execs())),
            images: Arc::new(ImageBackend(self.images)),
            registries: Arc::new(RegistryBackend(self.registries)),
            volumes: Arc::new(VolumeBackend(self.volumes)),
            networks: Arc::new(NetworkBackend(self.networks)),
            system: Arc::new(SystemBackend {
                system: self.system,
                engine: self.engine,
                build_cache,
            }),
        }
    }
}

struct ContainerBackend {
    containers: Containers,
    builds: super::build::Running,
    engine: Engine,
    images: Arc<Images>,
}

fn changed(changed: cais_engine::Changed) -> Changed {
    match changed {
        cais_engine::Changed::Changed => Changed::Changed,
        cais_engine::Changed::Unchanged => Changed::Unchanged,
    }
}

fn hijack(hijack: cais_engine::Hijack) -> Hijack {
    Hijack {
        framing: hijack.framing,
        serve: hijack.serve,
    }
}

#[async_trait]
impl backend::Containers for ContainerBackend {
    async fn list(&self, query: ContainerListQuery) -> Result<Vec<ContainerSummary>> {
        self.containers.list(query).await
    }
    async fn create(
        &self,
        name: Option<String>,
        platform: Option<Platform>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        self.containers.create(name, platform, request).await
    }
    async fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        self.containers.inspect(name, size).await
    }
    async fn start(&self, name: &str, detach_keys: Option<String>) -> Result<Changed> {
        self.containers.start(name, detach_keys).await.map(changed)
    }
    async fn stop(&self, name: &str, query: StopQuery) -> Result<Changed> {
        self.containers.stop(name, query).await.map(changed)
    }
    async fn restart(&self, name: &str, query: StopQuery) -> Result<()> {
        self.containers.restart(name, query).await
    }
    async fn kill(&self, name: &str, signal: Option<String>) -> Result<()> {
        self.containers.kill(name, signal).await
    }
    async fn pause(&self, name: &str) -> Result<()> {
        self.containers.pause(name).await
    }
    async fn unpause(&self, name: &str) -> Result<()> {
        self.containers.unpause(name).await
    }
    async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        self.containers.rename(name, new_name).await
    }
    async fn resize(&self, name: &str, size: TtySize) -> Result<()> {
        self.containers.resize(name, size).await
    }
    async fn update(
        &self,
        name: &str,
        request: ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        self.containers.update(name, request).await
    }
    async fn remove(&self, name: &str, query: RemoveQuery) -> Result<()> {
        self.containers.remove(name, query).await
    }
    async fn prune(&self, mut filters: Filters) -> Result<ContainerPruneResponse> {
        let _builds = self.builds.spare(&mut filters).await;
        self.containers.prune(filters).await
    }
    async fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, Result<ContainerWaitResponse>>> {
        self.containers.wait(name, condition).await
    }
    async fn top(&self, name: &str, ps_args: Option<String>) -> Result<ContainerTopResponse> {
        top::top(self.engine.house(), name, ps_args.as_deref()).await
    }
    async fn changes(&self, name: &str) -> Result<Option<Vec<FilesystemChange>>> {
        self.containers.changes(name).await
    }
    async fn logs(&self, name: &str, query: LogsQuery) -> Result<Logs> {
        let logs = self.containers.logs(name, query).await?;
        Ok(Logs {
            framing: logs.framing,
            bytes: logs.bytes,
        })
    }
    async fn stats(&self, name: &str, query: StatsQuery) -> Result<Answers<ContainerStats>> {
        stats::stats(self.engine.house(), name, query).await
    }
    async fn attach(&self, name: &str, query: AttachQuery) -> Result<Hijack> {
        self.containers.attach(name, query).await.map(hijack)
    }
    async fn export(&self, name: &str) -> Result<Answers<Bytes>> {
        self.images.export(name)
    }
}

struct ExecBackend(Execs);

#[async_trait]
impl backend::Execs for ExecBackend {
    async fn create(
        &self,
        container: &str,
        request: ExecCreateRequest,
    ) -> Result<ExecCreateResponse> {
        self.0.create(container, request).await
    }
    async fn start_attached(&self, id: &str, request: ExecStartRequest) -> Result<Hijack> {
        self.0.start_attached(id, request).await.map(hijack)
    }
    async fn start_detached(&self, id: &str) -> Result<()> {
        self.0.start_detached(id).await
    }
    async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        self.0.inspect(id).await
    }
    async fn resize(&self, id: &str, size: TtySize) -> Result<()> {
        self.0.resize(id, size).await
    }
}

struct ImageBackend(Arc<Images>);

#[async_trait]
impl backend::Images for ImageBackend {
    async fn list(&self, query: ImageListQuery) -> Result<Vec<ImageSummary>> {
        self.0.list(query).await
    }
    async fn inspect(&self, name: &str, platform: Option<Platform>) -> Result<ImageInspect> {
        self.0.inspect(name, platform).await
    }
    async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryItem>> {
        self.0.history(name, platform).await
    }
    async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        self.0.tag(name, repo, tag).await
    }
    async fn remove(&self, name: &str, query: ImageRemoveQuery) -> Result<Vec<ImageDeleteItem>> {
        self.0.remove(name, query).await
    }
    async fn prune(&self, filters: Filters) -> Result<ImagePruneResponse> {
        self.0.prune(filters).await
    }
    async fn load(
        &self,
        archive: Upload,
        quiet: bool,
        platform: Option<Platform>,
    ) -> Result<Answers<Bytes>> {
        Ok(self.0.load(archive, quiet, platform))
    }
    async fn save(&self, names: Vec<String>, platform: Option<Platform>) -> Result<Answers<Bytes>> {
        self.0.save(names, platform).await
    }
    async fn tree(&self, name: String, directory: String) -> Result<Answers<Bytes>> {
        self.0.tree(name, directory).await
    }
    async fn import(&self, query: ImportQuery, archive: Upload) -> Result<Answers<Bytes>> {
        self.0.import(query, archive).await
    }
    async fn check(&self, repair: bool) -> Result<Answers<Bytes>> {
        Ok(self.0.check(repair))
    }
    async fn commit(&self, query: CommitQuery, config: Option<ContainerConfig>) -> Result<String> {
        Ok(self.0.commit(query, config).await?.to_string())
    }
}

struct RegistryBackend(Arc<Registries>);

#[async_trait]
impl backend::Registries for RegistryBackend {
    async fn pull(&self, query: PullQuery) -> Result<Answers<Bytes>> {
        self.0.pull(query).await
    }
    async fn push(&self, query: PushQuery) -> Result<Answers<Bytes>> {
        self.0.push(query).await
    }
    async fn search(&self, query: SearchQuery) -> Result<Vec<SearchResult>> {
        self.0.search(query).await
    }
    async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        self.0.login(auth).await
    }
    async fn distribution(
        &self,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        self.0.inspect(name, auth).await
    }
}

struct VolumeBackend(Arc<Volumes>);

#[async_trait]
impl backend::Volumes for VolumeBackend {
    async fn list(&self, filters: Filters) -> Result<VolumeListResponse> {
        self.0.list(filters).await
    }
    async fn create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        self.0.create(request).await
    }
    async fn inspect(&self, name: &str) -> Result<Volume> {
        self.0.inspect(name).await
    }
    async fn remove(&self, name: &str, force: bool) -> Result<()> {
        self.0.remove(name, force).await
    }
    async fn prune(&self, filters: Filters) -> Result<VolumePruneResponse> {
        self.0.prune(filters).await
    }
}

struct NetworkBackend(Arc<Networks>);

#[async_trait]
impl backend::Networks for NetworkBackend {
    async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        self.0.list(filters).await
    }
    async fn inspect(&self, name: &str, _verbose: bool) -> Result<Network> {
        self.0.inspect(name).await
    }
    async fn create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        self.0.create(request).await
    }
    async fn remove(&self, name: &str) -> Result<()> {
        self.0.remove(name).await
    }
    async fn connect(&self, name: &str, request: NetworkConnectRequest) -> Result<()> {
        self.0.connect(name, request).await
    }
    async fn disconnect(&self, name: &str, request: NetworkDisconnectRequest) -> Result<()> {
        self.0.disconnect(name, request).await
    }
    async fn prune(&self, filters: Filters) -> Result<NetworkPruneResponse> {
        self.0.prune(filters).await
    }
}

struct SystemBackend {
    system: Arc<System>,
    engine: Engine,
    build_cache: super::build::Records,
}

#[async_trait]
impl backend::System for SystemBackend {
    async fn info(&self) -> Result<SystemInfo> {
        self.system.info().await
    }
    async fn version(&self) -> Result<SystemVersion> {
        Ok(self.system.version())
    }
    async fn disk_usage(&self, types: Vec<String>) -> Result<DiskUsage> {
        let mut usage = self.system.disk_usage(&types).await?;
        if usage.build_cache.is_some() {
            let records = self.build_cache.clone();
            let listed = tokio::task::spawn_blocking(move || records.list()).await;
            let listed =
                listed.map_err(|error| cais_types::Error::internal(format!("df: {error}")))?;
            usage.build_cache = Some(listed?);
        }
        Ok(usage)
    }
    async fn events(&self, query: EventsQuery) -> Result<Answers<EventMessage>> {
        Ok(self.engine.events().stream(query))
    }
}
