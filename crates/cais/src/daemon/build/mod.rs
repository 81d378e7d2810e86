//! The builder behind the API: its ports filled with the image store, the engine and the database.

mod caches;
mod claims;
mod context;
mod executor;
mod fetch;
mod gc;
mod images;
mod kept;
mod loans;
mod outputs;
mod records;
mod running;
mod session;
mod trees;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cais_api::backend::{self, Answers, Hijack, Upload};
use cais_build::attest::{Annotations, Attestations};
use cais_build::cancel::Cancellation;
use cais_build::dockerfile::git_ref::GitRef;
use cais_build::listing::Ranges;
use cais_build::messages::{Messages, canceled, failure};
use cais_build::ports::{Host, Ports};
use cais_build::{BuildRequest, Prepared, prepare};
use cais_distribution::client::ClientConfig;
use cais_engine::Engine;
use cais_services::pipe::{AnswerWriter, UploadReader, answer, stream_of};
use cais_services::registry::Registries;
use cais_session::borrower::Sessions;
use cais_state::Db;
use cais_types::api::BuildPruneResponse;
use cais_types::api::query::{BuildPruneQuery, BuildQuery};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Error, Reference, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use context::Context;
pub use executor::remove_leftovers;
pub use gc::{BuilderConfig, keep_below};
use outputs::Outputs;
pub use records::Records;
pub use running::Running;

/// Messages that may wait for a slow client.
const DEPTH: usize = 64;

/// Builds images.
#[derive(Clone)]
pub struct BuildBackend {
    pub engine: Engine,
    pub images: Arc<cais_images::Store>,
    pub registries: Arc<Registries>,
    pub db: Arc<Db>,
    pub running: Running,
    pub sessions: Sessions,
    pub canceled_by: Cancelable,
    /// Told when a build has ended.
    pub built: Arc<Notify>,
    /// How files behind URLs are asked for.
    pub web: ClientConfig,
    /// Contexts while they are used, and cache mounts.
    pub directory: PathBuf,
}

impl BuildBackend {
    fn caches(&self) -> caches::Caches {
        caches::Caches {
            directory: self.directory.join("caches"),
            db: Arc::clone(&self.db),
        }
    }

    /// The cache of all builds.
    pub fn records(&self) -> Records {
        Records {
            db: Arc::clone(&self.db),
            images: Arc::clone(&self.images),
            caches: self.directory.join("caches"),
            contexts: self.directory.join("kept"),
            engine: self.engine.clone(),
        }
    }
}

#[async_trait]
impl backend::Builds for BuildBackend {
    async fn build(&self, query: BuildQuery, upload: Upload) -> Result<Answers<Bytes>> {
        refuse_unbuilt(&query)?;
        let (sender, receiver) = mpsc::channel(DEPTH);
        let reader = UploadReader::new(upload);
        let (backend, handle) = (self.clone(), Handle::current());
        if query.listed {
            // The answer begins before the body has come.
            tokio::task::spawn_blocking(move || {
                let client = Client(sender);
                let read = backend.update(&query, reader, &client, &handle);
                match read.and_then(|job| Ok((job, backend.running.begin()?))) {
                    Ok((job, build)) => backend.run(query, job, build, handle, client.0),
                    Err(error) => {
                        // The client may have gone; then nobody is left to be told.
                        let _ = client.send(failure(&error));
                    }
                }
            });
            return Ok(stream_of(receiver));
        }
        let read = move || {
            let job = backend.receive(&query, reader, &handle)?;
            let build = backend.running.begin()?;
            Ok((backend, query, job, build, handle))
        };
        let (backend, query, job, build, handle) = blocking(read).await?;
        tokio::task::spawn_blocking(move || backend.run(query, job, build, handle, sender));
        Ok(stream_of(receiver))
    }

    async fn session(&self, id: String) -> Result<Hijack> {
        Ok(session::begin(self.sessions.clone(), id))
    }

    fn cancel(&self, id: &str) {
        self.canceled_by.cancel(id);
    }

    async fn export_cache(&self, id: String) -> Result<Answers<Bytes>> {
        let (caches, wanted) = (self.caches(), id.clone());
        let caches = blocking(move || {
            caches.get(&wanted)?;
            Ok(caches)
        })
        .await?;
        Ok(answer(move |out: &mut AnswerWriter| {
            // A reader that goes lets the next piece fail.
            caches.export(&id, out, &Cancellation::default())
        }))
    }

    async fn import_cache(&self, id: String, archive: Upload) -> Result<()> {
        if id.is_empty() {
            return Err(Error::invalid("a cache mount needs an id"));
        }
        let (caches, archive) = (self.caches(), UploadReader::new(archive));
        blocking(move || caches.import(&id, archive)).await
    }

    async fn prune(&self, query: BuildPruneQuery) -> Result<BuildPruneResponse> {
        let records = self.records();
        blocking(move || records.prune(&query)).await
    }
}

/// A build whose context has come and whose file was understood.
type Job = (Context, Prepared);

impl BuildBackend {
    /// Takes a context as any client sends it, or fetches it.
    fn receive(&self, query: &BuildQuery, reader: UploadReader, handle: &Handle) -> Result<Job> {
        let repository = GitRef::parse(&query.remote).map_err(Error::invalid)?;
        let context = if let Some(repository) = repository {
            Context::checkout(&self.directory, &repository, query)?
        } else {
            let body: Box<dyn Read + Send> = match query.remote.as_str() {
                "" => Box::new(reader),
                url => Box::new(fetch::context(&self.web, handle, url, &self.directory)?),
            };
            Context::receive(&self.directory, body, query)?
        };
        self.prepared(query, context, handle)
    }

    fn prepared(&self, query: &BuildQuery, mut context: Context, handle: &Handle) -> Result<Job> {
        context.find_named(&query.contexts, |place, into| {
            if let Some(repository) = GitRef::parse(place).map_err(Error::invalid)? {
                return fetch::checkout(&repository, into);
            }
            let archive = fetch::context(&self.web, handle, place, &self.directory)?;
            cais_images::extract_into(context::open_directory(into)?, archive)?;
            Ok(into.to_owned())
        })?;
        let prepared = prepare(request(query, &context)?)?;
        Ok((context, prepared))
    }

    /// Takes what has changed of a context that stays.
    fn update(
        &self,
        query: &BuildQuery,
        mut reader: UploadReader,
        client: &Client,
        handle: &Handle,
    ) -> Result<Job> {
        let mut ask = |wanted: &[Ranges]| {
            let message = serde_json::json!({ "aux": { "Wanted": wanted } });
            client.send(message.to_string().into_bytes())
        };
        let context = Context::update(&self.directory, &mut reader, query, &mut ask)?;
        self.prepared(query, context, handle)
    }

    fn run(
        &self,
        query: BuildQuery,
        job: Job,
        build: running::Build,
        handle: Handle,
        client: mpsc::Sender<Result<Bytes>>,
    ) {
        let (context, prepared) = job;
        let gone = ClientGone::watch(&handle, &client);
        let _cancelable = self.canceled_by.add(&query.build_id, &gone.cancellation);
        let images = images::BuildImages {
            store: Arc::clone(&self.images),
            db: Arc::clone(&self.db),
            holder: cais_images::Store::holder(Arc::clone(&self.images)),
            registries: Arc::clone(&self.registries),
            handle: handle.clone(),
            auths: query.auths,
        };
        let executor = executor::Steps {
            build,
            engine: self.engine.clone(),
            handle: handle.clone(),
            caches: self.caches(),
            trees: trees::Trees {
                store: Arc::clone(&self.images),
                directory: self.directory.join("mounts"),
            },
            sessions: self.sessions.clone(),
        };
        let web = fetch::Web {
            config: self.web.clone(),
            handle,
            client: client.clone(),
        };
        let cache = images::Index {
            db: Arc::clone(&self.db),
        };
        let ports = Ports {
            images: &images,
            executor: &executor,
            cache: &cache,
            fetcher: &web,
        };
        prepared.run(ports, &Client(client), &gone.cancellation);
        drop(gone);
        drop((context, images, executor));
        self.built.notify_one();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = tokio::task::spawn_blocking(work).await;
    task.map_err(|error| Error::internal(format!("build: {error}")))?
}

/// Says of what is asked for and not built that it is not built.
fn refuse_unbuilt(query: &BuildQuery) -> Result<()> {
    if query.version == "2" {
        return Err(Error::unsupported("the BuildKit protocol is not built yet"));
    }
    Ok(())
}

fn request(query: &BuildQuery, context: &Context) -> Result<BuildRequest> {
    let outputs = Outputs::parse(&query.outputs)?;
    let mut tags = Vec::new();
    for tag in query.tags.iter().chain(&outputs.names) {
        let name: Reference = tag
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        if name.digest().is_some() {
            return Err(Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        tags.push(name.with_default_tag().familiar());
    }
    let args = query.build_args.iter();
    Ok(BuildRequest {
        id: ContainerId::from_bytes(cais_engine::create::random()?).to_string(),
        remote: Some(query.remote.clone()).filter(|url| !url.is_empty()),
        attestations: attestations(query, &tags)?,
        annotations: annotations(query, &tags)?,
        dockerfile: context.dockerfile.clone(),
        context: context.open()?,
        context_path: context.path(),
        memory: context.memory(),
        contexts: context.named.clone(),
        scratch: context.scratch(),
        build_args: args
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect(),
        labels: query.labels.clone(),
        target: query.target.clone(),
        tags,
        no_cache: query.no_cache,
        squash: query.squash,
        cache_from: query.cache_from.clone(),
        cache_to: query.cache_to.clone(),
        created: source_date(query)?,
        rewrite_times: query.rewrite_timestamp || outputs.rewrite_timestamp,
        no_cache_filter: query.no_cache_filter.clone(),
        pull: query.pull,
        quiet: query.quiet,
        keep_containers: !query.remove && !query.force_remove,
        force_remove: query.force_remove,
        network: query.network.clone(),
        host: host(query),
        platforms: platforms(&query.platform)?,
        session: query.session.clone(),
    })
}

/// What is attested of the result, which is found by its names only.
fn attestations(query: &BuildQuery, tags: &[String]) -> Result<Attestations> {
    let attestations = Attestations::parse(&query.attest)?;
    if tags.is_empty() && !attestations.is_empty() {
        let text = "tag is needed for attestations: they belong to a name";
        return Err(Error::invalid(text));
    }
    Ok(attestations)
}

fn annotations(query: &BuildQuery, tags: &[String]) -> Result<Annotations> {
    let annotations = Annotations::parse(&query.annotations)?;
    if tags.is_empty() && !annotations.is_empty() {
        let text = "tag is needed for annotations: they belong to a name";
        return Err(Error::invalid(text));
    }
    Ok(annotations)
}

/// The platforms of a list, each once.
fn platforms(list: &str) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for text in list.split(',').filter(|text| !text.is_empty()) {
        let platform = text.trim().parse::<Platform>();
        let platform = platform.map_err(|error| Error::invalid(error.to_string()))?;
        let platform = platform.normalized();
        if platform.os != "linux" {
            return Err(Error::unsupported(format!(
                "building for {platform} is not supported: images here are for linux"
            )));
        }
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// The time of what is made, where the client says one.
fn source_date(query: &BuildQuery) -> Result<Option<i64>> {
    let text = query.build_args.get("SOURCE_DATE_EPOCH");
    let text = text.and_then(Option::as_deref).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| jiff::Timestamp::from_second(*seconds).is_ok());
    let bad = || Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"));
    seconds.ok_or_else(bad).map(Some)
}

fn host(query: &BuildQuery) -> Host {
    Host {
        extra_hosts: query.extra_hosts.clone(),
        shm_size: query.shm_size,
        memory: query.memory,
        memory_swap: query.memory_swap,
        cpu_shares: query.cpu_shares,
        cpu_period: query.cpu_period,
        cpu_quota: query.cpu_quota,
        cpuset_cpus: query.cpuset_cpus.clone(),
        cpuset_mems: query.cpuset_mems.clone(),
        cgroup_parent: query.cgroup_parent.clone(),
        security_opt: query.security_opt.clone(),
        ulimits: query
            .ulimits
            .iter()
            .map(|limit| (limit.name.clone(), limit.soft, limit.hard))
            .collect(),
    }
}

/// The builds that go on and were given an id.
#[derive(Clone, Default)]
pub struct Cancelable(Arc<Mutex<BTreeMap<u64, (String, Cancellation)>>>);

/// A build that can be canceled until this is dropped.
struct Canceled<'a> {
    all: &'a Cancelable,
    number: u64,
}

impl Cancelable {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, (String, Cancellation)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: &str, cancellation: &Cancellation) -> Option<Canceled<'_>> {
        if id.is_empty() {
            return None;
        }
        let mut all = self.all();
        let number = all.keys().last().map_or(0, |last| last + 1);
        all.insert(number, (id.to_owned(), cancellation.clone()));
        drop(all);
        Some(Canceled { all: self, number })
    }

    fn cancel(&self, id: &str) {
        let named: Vec<Cancellation> = {
            let all = self.all();
            let named = all.values().filter(|(own, _)| own == id);
            named
                .map(|(_, cancellation)| cancellation.clone())
                .collect()
        };
        named.iter().for_each(Cancellation::set);
    }
}

impl Drop for Canceled<'_> {
    fn drop(&mut self) {
        self.all.all().remove(&self.number);
    }
}

/// Gives a build up when its client goes, until this is dropped.
struct ClientGone {
    cancellation: Cancellation,
    task: JoinHandle<()>,
}

impl ClientGone {
    fn watch(handle: &Handle, client: &mpsc::Sender<Result<Bytes>>) -> Self {
        let cancellation = Cancellation::default();
        let (client, given_up) = (client.clone(), cancellation.clone());
        let task = handle.spawn(async move {
            client.closed().await;
            given_up.set();
        });
        Self { cancellation, task }
    }
}

impl Drop for ClientGone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends messages to the client.
struct Client(mpsc::Sender<Result<Bytes>>);

impl Messages for Client {
    fn send(&self, message: Vec<u8>) -> Result<()> {
        self.0
            .blocking_send(Ok(message.into()))
            .map_err(|_| canceled())
    }
}
