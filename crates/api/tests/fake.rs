//! An engine of one container, and a server for it on a socket in a directory of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cais_api::backend::*;
use cais_types::api::query::*;
use cais_types::api::*;
use cais_types::oci::Platform;
use cais_types::{ClientConnection, Error, Framing, Result};
use futures_core::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

/// What the tests see and steer.
#[derive(Default)]
pub struct Fake {
    /// Lets `wait` end.
    pub exit: Notify,
    /// Events streams that were dropped.
    pub dropped: AtomicUsize,
}

struct Engine(Arc<Fake>);

/// Counts when the stream that owns it goes away.
struct Counted(Arc<Fake>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn known(name: &str) -> Result<()> {
    match name {
        "box" | "tty" => Ok(()),
        id if id == "ab".repeat(32) => Ok(()),
        _ => Err(Error::not_found(format!("No such container: {name}"))),
    }
}

fn no<T>() -> Result<T> {
    Err(Error::unsupported("the fake has none"))
}

/// Sends back what it reads, between a greeting and a farewell after the end of input.
fn echo(framing: Framing) -> Hijack {
    Hijack {
        framing,
        serve: Box::new(move |connection| {
            Box::pin(async move {
                let served =
                    tokio::task::spawn_blocking(move || echo_blocking(framing, connection));
                served
                    .await
                    .map_err(|error| Error::internal(error.to_string()))
            })
        }),
    }
}

fn echo_blocking(framing: Framing, connection: ClientConnection) {
    let mut socket = UnixStream::from(connection.socket);
    socket.set_nonblocking(false).unwrap();
    let frame = |text: &[u8]| {
        let mut bytes = Vec::new();
        if framing == Framing::Multiplexed {
            bytes.extend_from_slice(&[1, 0, 0, 0]);
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        }
        bytes.extend_from_slice(text);
        bytes
    };
    socket.write_all(&frame(b"hello\n")).unwrap();
    let mut input = connection.unread;
    socket.read_to_end(&mut input).unwrap();
    socket.write_all(&frame(&input)).unwrap();
    socket.write_all(&frame(b"bye\n")).unwrap();
}

#[async_trait]
impl Containers for Engine {
    async fn list(&self, query: ContainerListQuery) -> Result<Vec<ContainerSummary>> {
        let row = ContainerSummary {
            id: "ab".repeat(32),
            names: vec!["/box".to_owned()],
            image: "busybox".to_owned(),
            command: "top".to_owned(),
            state: "running".to_owned(),
            status: format!("Up {} hours", if query.all { 2 } else { 1 }),
            ..ContainerSummary::default()
        };
        Ok(vec![row])
    }
    async fn create(
        &self,
        name: Option<String>,
        _: Option<Platform>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let id = format!("{}:{}", name.unwrap_or_default(), request.config.image);
        Ok(ContainerCreateResponse {
            id,
            warnings: Vec::new(),
        })
    }
    async fn inspect(&self, name: &str, _: bool) -> Result<ContainerInspect> {
        known(name)?;
        let mut container = ContainerInspect {
            id: "ab".repeat(32),
            name: "/box".to_owned(),
            ..ContainerInspect::default()
        };
        container.state.status = "running".to_owned();
        container.state.running = true;
        container.config.tty = name == "tty";
        let endpoint = EndpointSettings {
            mac_address: "02:42:ac:11:00:02".to_owned(),
            network_id: "n".to_owned(),
            ..EndpointSettings::default()
        };
        container.host_config.network_mode = "bridge".to_owned();
        container
            .network_settings
            .networks
            .insert("bridge".to_owned(), endpoint);
        Ok(container)
    }
    async fn start(&self, name: &str, _: Option<String>) -> Result<Changed> {
        known(name)?;
        Ok(if name == "tty" {
            Changed::Unchanged
        } else {
            Changed::Changed
        })
    }
    async fn stop(&self, name: &str, _: StopQuery) -> Result<Changed> {
        known(name).map(|()| Changed::Changed)
    }
    async fn restart(&self, name: &str, _: StopQuery) -> Result<()> {
        known(name)
    }
    async fn kill(&self, name: &str, _: Option<String>) -> Result<()> {
        known(name)?;
        Err(Error::conflict("container box is not running"))
    }
    async fn pause(&self, name: &str) -> Result<()> {
        known(name)
    }
    async fn unpause(&self, name: &str) -> Result<()> {
        known(name)
    }
    async fn rename(&self, name: &str, _: &str) -> Result<()> {
        known(name)
    }
    async fn resize(&self, name: &str, _: TtySize) -> Result<()> {
        known(name)
    }
    async fn update(
        &self,
        name: &str,
        _: ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        known(name).map(|()| ContainerUpdateResponse::default())
    }
    async fn remove(&self, name: &str, _: RemoveQuery) -> Result<()> {
        known(name)
    }
    async fn prune(&self, _: Filters) -> Result<ContainerPruneResponse> {
        Ok(ContainerPruneResponse::default())
    }
    async fn wait(
        &self,
        name: &str,
        _: WaitCondition,
    ) -> Result<BoxFuture<'static, Result<ContainerWaitResponse>>> {
        known(name)?;
        let fake = Arc::clone(&self.0);
        Ok(Box::pin(async move {
            fake.exit.notified().await;
            Ok(ContainerWaitResponse {
                error: None,
                status_code: 3,
            })
        }))
    }
    async fn top(&self, name: &str, _: Option<String>) -> Result<ContainerTopResponse> {
        known(name).map(|()| ContainerTopResponse::default())
    }
    async fn changes(&self, name: &str) -> Result<Option<Vec<FilesystemChange>>> {
        known(name).map(|()| None)
    }
    async fn logs(&self, name: &str, _: LogsQuery) -> Result<Logs> {
        known(name)?;
        let frame = Bytes::from_static(b"\x01\0\0\0\0\0\0\x04log\n");
        let bytes: Answers<Bytes> = Box::pin(stream::iter([Ok(frame)]));
        Ok(Logs {
            framing: Framing::Multiplexed,
            bytes,
        })
    }
    async fn stats(&self, name: &str, _: StatsQuery) -> Result<Answers<ContainerStats>> {
        known(name)?;
        Ok(Box::pin(stream::iter([Ok(ContainerStats::default())])))
    }
    async fn attach(&self, name: &str, _: AttachQuery) -> Result<Hijack> {
        known(name)?;
        Ok(echo(if name == "tty" {
            Framing::Raw
        } else {
            Framing::Multiplexed
        }))
    }
    async fn export(&self, name: &str) -> Result<Answers<Bytes>> {
        known(name)?;
        Ok(Box::pin(stream::iter([Ok(Bytes::from_static(b"tar"))])))
    }
}

#[async_trait]
impl Execs for Engine {
    async fn create(&self, container: &str, _: ExecCreateRequest) -> Result<ExecCreateResponse> {
        known(container).map(|()| ExecCreateResponse {
            id: "e1".to_owned(),
        })
    }
    async fn start_attached(&self, id: &str, request: ExecStartRequest) -> Result<Hijack> {
        known(id)?;
        Ok(echo(if request.tty {
            Framing::Raw
        } else {
            Framing::Multiplexed
        }))
    }
    async fn start_detached(&self, id: &str) -> Result<()> {
        known(id)
    }
    async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        known(id).map(|()| ExecInspect::default())
    }
    async fn resize(&self, id: &str, _: TtySize) -> Result<()> {
        known(id)
    }
}

#[async_trait]
impl Images for Engine {
    async fn list(&self, _: ImageListQuery) -> Result<Vec<ImageSummary>> {
        Ok(Vec::new())
    }
    async fn inspect(&self, name: &str, _: Option<Platform>) -> Result<ImageInspect> {
        Ok(ImageInspect {
            id: name.to_owned(),
            size: 7,
            ..ImageInspect::default()
        })
    }
    async fn history(&self, _: &str, _: Option<Platform>) -> Result<Vec<HistoryItem>> {
        Ok(Vec::new())
    }
    async fn tag(&self, _: &str, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &str, _: ImageRemoveQuery) -> Result<Vec<ImageDeleteItem>> {
        Ok(Vec::new())
    }
    async fn prune(&self, _: Filters) -> Result<ImagePruneResponse> {
        Ok(ImagePruneResponse::default())
    }
    async fn load(
        &self,
        mut archive: Upload,
        _: bool,
        _: Option<Platform>,
    ) -> Result<Answers<Bytes>> {
        let mut length = 0;
        while let Some(chunk) = archive.next().await {
            length += chunk?.len();
        }
        let line = Bytes::from(format!(r#"{{"stream":"{length} bytes"}}"#));
        Ok(Box::pin(stream::iter([
            Ok(line),
            Err(Error::internal("broken archive")),
        ])))
    }
    async fn tree(&self, _: String, _: String) -> Result<Answers<Bytes>> {
        no()
    }
    async fn save(&self, names: Vec<String>, _: Option<Platform>) -> Result<Answers<Bytes>> {
        Ok(Box::pin(stream::iter([Ok(Bytes::from(names.join(",")))])))
    }
    async fn import(&self, _: ImportQuery, _: Upload) -> Result<Answers<Bytes>> {
        no()
    }
    async fn check(&self, _: bool) -> Result<Answers<Bytes>> {
        no()
    }
    async fn commit(&self, query: CommitQuery, config: Option<ContainerConfig>) -> Result<String> {
        let config = config.map(|config| config.user);
        Ok(format!("{query:?} {config:?}"))
    }
}

#[async_trait]
impl Registries for Engine {
    /// Tells who asks for what; `none` is nowhere.
    async fn pull(&self, query: PullQuery) -> Result<Answers<Bytes>> {
        if query.reference.path().ends_with("none") {
            return Err(Error::not_found("manifest unknown"));
        }
        let auth = query.auth.unwrap_or_default();
        let platform = query.platform.map(|platform| platform.to_string());
        let text = serde_json::json!([query.reference.to_string(), platform, auth.username]);
        Ok(Box::pin(stream::iter([
            Ok(text.to_string().into()),
            Err(Error::internal("later")),
        ])))
    }
    async fn push(&self, query: PushQuery) -> Result<Answers<Bytes>> {
        let (reference, platform, auth) = (query.reference, query.platform, query.auth);
        self.pull(PullQuery {
            reference,
            platform,
            auth,
            holder: None,
            whole: false,
        })
        .await
    }
    async fn search(&self, query: SearchQuery) -> Result<Vec<SearchResult>> {
        let found = SearchResult {
            name: query.term,
            star_count: query.limit.unwrap_or(0).into(),
            description: query.auth.unwrap_or_default().username,
            ..SearchResult::default()
        };
        Ok(vec![found])
    }
    async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        if auth.password != "secret" {
            let class = cais_types::ErrorClass::Unauthorized;
            return Err(Error::new(class, "unauthorized"));
        }
        Ok(AuthResponse {
            identity_token: String::new(),
            status: "Login Succeeded".to_owned(),
        })
    }
    async fn distribution(
        &self,
        _name: &str,
        _auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        no()
    }
}

#[async_trait]
impl Builds for Engine {
    async fn build(&self, query: BuildQuery, _: Upload) -> Result<Answers<Bytes>> {
        let line = serde_json::json!({ "stream": format!("{:?}", query.build_args) });
        let line = Bytes::from(line.to_string());
        Ok(Box::pin(stream::iter([Ok(line)])))
    }
    async fn session(&self, _: String) -> Result<Hijack> {
        Ok(echo(Framing::Raw))
    }
    fn cancel(&self, _: &str) {}
    async fn export_cache(&self, _: String) -> Result<Answers<Bytes>> {
        no()
    }
    async fn import_cache(&self, _: String, _: Upload) -> Result<()> {
        no()
    }
    async fn prune(&self, _: BuildPruneQuery) -> Result<BuildPruneResponse> {
        no()
    }
}

#[async_trait]
impl Volumes for Engine {
    async fn list(&self, _: Filters) -> Result<VolumeListResponse> {
        Ok(VolumeListResponse::default())
    }
    async fn create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        Ok(Volume {
            name: request.name,
            ..Volume::default()
        })
    }
    async fn inspect(&self, _: &str) -> Result<Volume> {
        no()
    }
    async fn remove(&self, _: &str, _: bool) -> Result<()> {
        no()
    }
    async fn prune(&self, _: Filters) -> Result<VolumePruneResponse> {
        Ok(VolumePruneResponse::default())
    }
}

#[async_trait]
impl Networks for Engine {
    async fn list(&self, _: Filters) -> Result<Vec<Network>> {
        Ok(Vec::new())
    }
    async fn inspect(&self, _: &str, _: bool) -> Result<Network> {
        no()
    }
    async fn create(&self, _: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        no()
    }
    async fn remove(&self, _: &str) -> Result<()> {
        no()
    }
    async fn connect(&self, _: &str, _: NetworkConnectRequest) -> Result<()> {
        no()
    }
    async fn disconnect(&self, _: &str, _: NetworkDisconnectRequest) -> Result<()> {
        no()
    }
    async fn prune(&self, _: Filters) -> Result<NetworkPruneResponse> {
        Ok(NetworkPruneResponse::default())
    }
}

#[async_trait]
impl System for Engine {
    async fn info(&self) -> Result<SystemInfo> {
        Ok(SystemInfo::default())
    }
    async fn version(&self) -> Result<SystemVersion> {
        Ok(SystemVersion {
            version: "28.5.2".to_owned(),
            api_version: API_VERSION.to_owned(),
            min_api_version: MIN_API_VERSION.to_owned(),
            os: "linux".to_owned(),
            ..SystemVersion::default()
        })
    }
    async fn disk_usage(&self, _: Vec<String>) -> Result<DiskUsage> {
        Ok(DiskUsage::default())
    }
    async fn events(&self, query: EventsQuery) -> Result<Answers<EventMessage>> {
        let counted = Counted(Arc::clone(&self.0));
        let event = EventMessage {
            kind: "container".to_owned(),
            action: "start".to_owned(),
            time: 1,
            ..EventMessage::default()
        };
        let first = stream::iter([Ok(event)]);
        if query.until.is_some() {
            return Ok(Box::pin(first));
        }
        let endless = stream::pending().map(move |item| {
            let _keep = &counted;
            item
        });
        Ok(Box::pin(first.chain(endless)))
    }
}

/// A running server; it ends with the value.
pub struct Server {
    pub fake: Arc<Fake>,
    pub socket: PathBuf,
    _directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let fake = Arc::new(Fake::default());
        let engine = || Engine(Arc::clone(&fake));
        let backends = Backends {
            containers: Arc::new(engine()),
            execs: Arc::new(engine()),
            images: Arc::new(engine()),
            registries: Arc::new(engine()),
            builds: Arc::new(engine()),
            volumes: Arc::new(engine()),
            networks: Arc::new(engine()),
            system: Arc::new(engine()),
        };
        let guard = runtime.enter();
        let hosts = [format!("unix://{}", socket.display())];
        let listeners = cais_api::bind(&hosts, "no-such-group").unwrap();
        drop(guard);
        runtime.spawn(cais_api::serve(listeners, backends));
        Self {
            fake,
            socket,
            _directory: directory,
            _runtime: runtime,
        }
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends a request on a connection of its own and reads until its end.
    pub fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers: String = headers
            .lines()
            .map(|header| format!("{header}\r\n"))
            .collect();
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n{headers}{length}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}
