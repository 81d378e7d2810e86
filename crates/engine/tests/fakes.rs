//! Fakes for the ports, and the world of one test.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use cais_engine::kernel::Kernel;
use cais_engine::launcher::Launcher;
use cais_engine::ports::{
    DnsWish, KeptSandbox, LiveSandbox, NamespaceMade, NetworkFacts, OverlayDirs, PortRequest,
    ResolvedImage, RootfsStore, Sandbox, SandboxRequest, SandboxStore, VolumeStore,
};
use cais_engine::{Engine, EngineConfig, Ports};
use cais_monitor::protocol::{
    Answer, Client, Envelope, Exit, Failure, FailureClass, Launch, Message, ProcessIdentity,
    Request, Status,
};
use cais_runtime::cgroups::Stats;
use cais_runtime::spec::LinuxResources;
use cais_state::Db;
use cais_types::api::{
    ContainerConfig, ContainerCreateRequest, EndpointSettings, FilesystemChange, PortBinding,
};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, Error, NetworkId, Result};

/// What a fake monitor was told, in order.
#[derive(Debug)]
pub enum Heard {
    Launch(Box<Launch>),
    Attach(Client, UnixStream),
    Start,
    Kill(i32),
    Exec(String),
    Closed,
}

/// A monitor that a test plays by hand.
pub struct FakeMonitor {
    stream: Mutex<UnixStream>,
}

impl FakeMonitor {
    pub fn on(stream: UnixStream) -> Self {
        Self {
            stream: Mutex::new(stream),
        }
    }

    fn say(&self, message: &Message) {
        write(&mut self.stream.lock().unwrap(), message);
    }

    /// Ends the container as a real monitor does: record first, then the message, then the connection.
    pub fn exit(&self, directory: &Path, code: i32) {
        let exit = Exit {
            code,
            oom_killed: false,
            finished_at: now(),
            execs: Vec::new(),
        };
        cais_monitor::exit::write(directory, &exit).unwrap();
        self.say(&Message::Exited(exit));
        self.vanish();
    }

    /// Dies without a word.
    pub fn vanish(&self) {
        let _ = self
            .stream
            .lock()
            .unwrap()
            .shutdown(std::net::Shutdown::Both);
    }

    pub fn exec_exit(&self, exec_id: &str, code: i32) {
        self.say(&Message::ExecExited {
            exec_id: exec_id.to_owned(),
            code,
        });
    }
}

pub fn now() -> String {
    cais_engine::time::now()
}

/// How fake monitors behave.
#[derive(Clone, Default)]
pub struct Script {
    /// Answer to `Start`, when it shall fail.
    pub start_fails: Option<Failure>,
    /// Prepare nothing: the first request is refused, then the monitor ends.
    pub refuses: Option<Failure>,
    /// End by themselves right after the start with this code.
    pub exit_at_once: Option<i32>,
    /// Signals that end the container.
    pub dies_of: Vec<i32>,
}

type Running = Arc<Mutex<HashMap<ContainerId, Arc<FakeMonitor>>>>;

pub struct FakeLauncher {
    script: Arc<Mutex<Script>>,
    heard: mpsc::Sender<(ContainerId, Heard)>,
    pub running: Running,
    pub launches: AtomicU64,
}

impl Launcher for FakeLauncher {
    fn launch(&self, container: &ContainerId) -> Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let monitor = Arc::new(FakeMonitor::on(theirs.try_clone().unwrap()));
        self.running
            .lock()
            .unwrap()
            .insert(*container, Arc::clone(&monitor));
        self.launches.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().unwrap().clone();
        let (heard, id) = (self.heard.clone(), *container);
        std::thread::spawn(move || serve(theirs, &monitor, &script, id, &heard, true));
        Ok(ours.into())
    }

    fn empty_mounts(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ended(&self, _: &ContainerId) {}
}

/// Plays a monitor on a connection; `fresh` ones get a launch first.
pub fn serve(
    mut stream: UnixStream,
    monitor: &FakeMonitor,
    script: &Script,
    id: ContainerId,
    heard: &mpsc::Sender<(ContainerId, Heard)>,
    fresh: bool,
) {
    let mut directory = PathBuf::new();
    if fresh {
        let Some((launch, _)) = read::<Launch>(&mut stream) else {
            return;
        };
        directory.clone_from(&launch.directory);
        let _ = heard.send((id, Heard::Launch(Box::new(launch))));
    }
    while let Some((Envelope { sequence, request }, descriptor)) = read(&mut stream) {
        let mut dies = None;
        if let Some(failure) = script.refuses.clone() {
            let result = Err(failure);
            monitor.say(&Message::Reply { sequence, result });
            monitor.vanish();
            break;
        }
        let result = match request {
            Request::Start => match &script.start_fails {
                Some(failure) => Err(failure.clone()),
                None => {
                    dies = script.exit_at_once;
                    Ok(Answer::Process(ProcessIdentity {
                        pid: 4242,
                        start_time: 1,
                    }))
                }
            },
            Request::Exec { .. } => Ok(Answer::Process(ProcessIdentity {
                pid: 4243,
                start_time: 2,
            })),
            Request::Status => Ok(Answer::Status(Status {
                init: Some(ProcessIdentity {
                    pid: 4242,
                    start_time: 1,
                }),
                running: Vec::new(),
                ended: Vec::new(),
            })),
            _ => Ok(Answer::Done),
        };
        let told = match request {
            Request::Start => Some(Heard::Start),
            Request::Attach(client) => Some(Heard::Attach(
                client,
                UnixStream::from(descriptor.expect("a socket")),
            )),
            Request::Kill { signal } => {
                dies = script.dies_of.contains(&signal).then_some(128 + signal);
                Some(Heard::Kill(signal))
            }
            Request::Exec { exec_id, .. } => Some(Heard::Exec(exec_id)),
            _ => None,
        };
        if let Some(told) = told {
            let _ = heard.send((id, told));
        }
        monitor.say(&Message::Reply { sequence, result });
        if let Some(code) = dies {
            monitor.exit(&directory, code);
        }
    }
    let _ = heard.send((id, Heard::Closed));
}

fn write<T: serde::Serialize>(stream: &mut UnixStream, message: &T) {
    let body = serde_json::to_vec(message).unwrap();
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(body);
    let _ = stream.write_all(&bytes);
}

fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> Option<(T, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [std::io::IoSliceMut::new(&mut length)];
    let received = recvmsg(&*stream, &mut buffers, &mut control, RecvFlags::WAITALL).ok()?;
    if received.bytes != 4 {
        return None;
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    Some((serde_json::from_slice(&body).unwrap(), descriptor))
}

/// One image, `busybox`, without layers.
struct FakeRootfs {
    root: PathBuf,
}

impl RootfsStore for FakeRootfs {
    fn resolve(&self, image: &str, _: Option<&Platform>) -> Result<ResolvedImage> {
        if image != "busybox" {
            return Err(Error::not_found(format!("No such image: {image}")));
        }
        let config = ContainerConfig {
            cmd: Some(vec!["sh".to_owned()]),
            ..ContainerConfig::default()
        };
        Ok(ResolvedImage {
            id: Digest::from_bytes([7; 32]),
            config,
            platform: Platform::host(),
        })
    }
    fn create(&self, container: &ContainerId, _: &Digest) -> Result<()> {
        std::fs::create_dir_all(self.root.join(container.to_string())).unwrap();
        Ok(())
    }
    fn dirs(&self, container: &ContainerId, _: &Digest) -> Result<OverlayDirs> {
        let root = self.root.join(container.to_string());
        Ok(OverlayDirs {
            lower: Vec::new(),
            upper: root.clone(),
            work: root,
        })
    }
    fn remove(&self, container: &ContainerId) -> Result<()> {
        let _ = std::fs::remove_dir_all(self.root.join(container.to_string()));
        Ok(())
    }
    fn usage(&self, _: &ContainerId, _: &Digest) -> Result<(u64, u64)> {
        Ok((1, 2))
    }
    fn changes(&self, _: &ContainerId, _: &Digest) -> Result<Vec<FilesystemChange>> {
        Ok(Vec::new())
    }
    fn retain(&self, _: &[ContainerId]) -> Result<()> {
        Ok(())
    }
}

struct FakeVolumes;

impl VolumeStore for FakeVolumes {
    fn acquire(&self, name: Option<&str>, _: &str, _: &ContainerId) -> Result<(String, PathBuf)> {
        Ok((
            name.unwrap_or("anonymous").to_owned(),
            PathBuf::from("/nowhere"),
        ))
    }
    fn copy_up(&self, _: &str, _: OwnedFd) -> Result<()> {
        Ok(())
    }
    fn release(&self, _: &ContainerId, _: bool) -> Result<()> {
        Ok(())
    }
}

/// Counts open sandboxes.
#[derive(Default)]
pub struct FakeSandboxes {
    pub open: Mutex<Vec<ContainerId>>,
    pub fails: Mutex<Option<String>>,
}

impl SandboxStore for FakeSandboxes {
    fn facts(&self, network: &str) -> Result<NetworkFacts> {
        if network == "bridge" {
            return Ok(NetworkFacts {
                id: NetworkId::from_bytes([1; 32]),
                name: "bridge".to_owned(),
                driver: "bridge".to_owned(),
            });
        }
        Err(Error::not_found(format!("network {network} not found")))
    }
    fn check(&self, network: &str, _: &EndpointSettings) -> Result<NetworkFacts> {
        self.facts(network)
    }
    fn connect(
        &self,
        _: &LiveSandbox<'_>,
        _: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings> {
        Ok(settings.clone())
    }
    fn disconnect(&self, _: &LiveSandbox<'_>, _: &str) -> Result<()> {
        Ok(())
    }
    fn compare(
        &self,
        _: &LiveSandbox<'_>,
        known: &BTreeMap<String, EndpointSettings>,
    ) -> Result<KeptSandbox> {
        Ok(KeptSandbox {
            endpoints: known.clone(),
            gone: BTreeMap::new(),
            ports: BTreeMap::new(),
        })
    }
    fn open(&self, request: &SandboxRequest, made: NamespaceMade) -> Result<Sandbox> {
        if let Some(text) = self.fails.lock().unwrap().clone() {
            return Err(Error::internal(text));
        }
        self.open.lock().unwrap().push(request.container);
        made(std::fs::File::open("/proc/self/ns/net").unwrap().into());
        let mut endpoints = request.endpoints.clone();
        for endpoint in endpoints.values_mut() {
            endpoint.ip_address = "172.17.0.2".to_owned();
        }
        Ok(Sandbox {
            endpoints,
            ports: BTreeMap::new(),
            sysfs: None,
        })
    }
    fn close(&self, container: &ContainerId) -> Result<()> {
        self.open.lock().unwrap().retain(|open| open != container);
        Ok(())
    }
    fn retain(&self, running: &[ContainerId]) -> Result<()> {
        self.open
            .lock()
            .unwrap()
            .retain(|open| running.contains(open));
        Ok(())
    }
    fn republish(
        &self,
        _: &ContainerId,
        _: &[PortRequest],
        _: &[PortRequest],
    ) -> Result<BTreeMap<String, Vec<PortBinding>>> {
        Ok(BTreeMap::new())
    }
    fn adopt(&self, _: &ContainerId, _: &str, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    fn resolv_conf(&self, _: &[String], _: &DnsWish) -> Result<String> {
        Ok("nameserver 127.0.0.11\n".to_owned())
    }
    fn host_gateway(&self) -> Option<std::net::IpAddr> {
        None
    }
}

/// Remembers what was frozen and cleared.
#[derive(Default)]
pub struct FakeKernel {
    pub cleared: Mutex<Vec<String>>,
    pub frozen: Mutex<Vec<bool>>,
}

impl Kernel for FakeKernel {
    fn freeze(&self, _: &str, frozen: bool) -> Result<()> {
        self.frozen.lock().unwrap().push(frozen);
        Ok(())
    }
    fn limit(&self, _: &str, _: &LinuxResources) -> Result<()> {
        Ok(())
    }
    fn clear(&self, cgroup: &str, _: Option<ProcessIdentity>) -> Result<()> {
        self.cleared.lock().unwrap().push(cgroup.to_owned());
        Ok(())
    }
    fn figures(&self, _: &str) -> Result<Stats> {
        Err(Error::unsupported("no figures in tests"))
    }
    fn processes(&self, _: &str) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }
}

/// An engine over fakes, in a directory of its own.
pub struct World {
    pub engine: Engine,
    pub heard: mpsc::Receiver<(ContainerId, Heard)>,
    pub tell: mpsc::Sender<(ContainerId, Heard)>,
    pub script: Arc<Mutex<Script>>,
    pub launcher: Arc<FakeLauncher>,
    pub sandboxes: Arc<FakeSandboxes>,
    pub kernel: Arc<FakeKernel>,
    pub root: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// A new engine over what an earlier one left.
    pub fn over(root: tempfile::TempDir) -> Self {
        let (tell, heard) = mpsc::channel();
        let script = Arc::new(Mutex::new(Script {
            dies_of: vec![9, 15],
            ..Script::default()
        }));
        let launcher = Arc::new(FakeLauncher {
            script: Arc::clone(&script),
            heard: tell.clone(),
            running: Running::default(),
            launches: AtomicU64::new(0),
        });
        let sandboxes = Arc::new(FakeSandboxes::default());
        let kernel = Arc::new(FakeKernel::default());
        let ports = Ports {
            rootfs: Arc::new(FakeRootfs {
                root: root.path().join("layers"),
            }),
            volumes: Arc::new(FakeVolumes),
            sandboxes: Arc::clone(&sandboxes) as Arc<dyn SandboxStore>,
            launcher: Arc::clone(&launcher) as Arc<dyn Launcher>,
            kernel: Arc::clone(&kernel) as Arc<dyn Kernel>,
        };
        let config = EngineConfig::new(root.path().join("data"), root.path().join("exec"));
        std::fs::create_dir_all(root.path().join("data")).unwrap();
        let db = Arc::new(Db::open(&root.path().join("data/cais.db")).unwrap());
        let engine = Engine::open(config, ports, db).unwrap();
        Self {
            engine,
            heard,
            tell,
            script,
            launcher,
            sandboxes,
            kernel,
            root,
        }
    }

    pub fn set_script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub async fn create(
        &self,
        name: &str,
        change: impl FnOnce(&mut ContainerCreateRequest),
    ) -> ContainerId {
        let mut request = ContainerCreateRequest::default();
        request.config.image = "busybox".to_owned();
        change(&mut request);
        let created = self
            .engine
            .containers()
            .create(Some(name.to_owned()), None, request)
            .await;
        created.unwrap().id.parse().unwrap()
    }

    pub fn monitor(&self, id: ContainerId) -> Arc<FakeMonitor> {
        Arc::clone(&self.launcher.running.lock().unwrap()[&id])
    }

    pub fn directory(&self, id: ContainerId) -> PathBuf {
        self.root
            .path()
            .join("data/containers")
            .join(id.to_string())
    }

    pub async fn status(&self, name: &str) -> String {
        self.engine
            .containers()
            .inspect(name, false)
            .await
            .unwrap()
            .state
            .status
    }

    /// Everything the monitors heard so far, by kind.
    pub fn heard_kinds(&self) -> Vec<&'static str> {
        let kind = |(_, heard)| match heard {
            Heard::Launch(_) => "launch",
            Heard::Attach(..) => "attach",
            Heard::Start => "start",
            Heard::Kill(_) => "kill",
            Heard::Exec(_) => "exec",
            Heard::Closed => "closed",
        };
        self.heard.try_iter().map(kind).collect()
    }

    /// Actions of all container events, oldest first.
    pub async fn actions(&self) -> Vec<String> {
        use futures_util::StreamExt;
        let query = cais_types::api::query::EventsQuery {
            since: Some(0),
            until: Some(i64::MAX - 1),
            ..Default::default()
        };
        let mut stream = self.engine.events().stream(query);
        let mut actions = Vec::new();
        while let Some(Some(Ok(event))) = futures_util::FutureExt::now_or_never(stream.next()) {
            actions.push(event.action);
        }
        actions
    }
}

/// A failure as the monitor reports it.
pub fn failure(class: FailureClass, message: &str) -> Failure {
    Failure {
        class,
        message: message.to_owned(),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let limit = std::time::Duration::from_secs(10);
    let check = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(limit, check).await.is_ok(),
        "waited for: {what}"
    );
}
