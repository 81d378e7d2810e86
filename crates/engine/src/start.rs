//! `POST /containers/{id}/start`, the hot path: the network sandbox is made while the monitor is spawned and prepares the
//! container; then the monitor gets waiting clients, the network, and the word to go. Any failure undoes all of it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cais_monitor::protocol::{
    Answer, FailureClass, Launch, Log, ProcessIdentity, Request, Rootfs, Stdio,
};
use cais_sys::failpoint;
use cais_types::{Error, Result};
use tokio::sync::oneshot;

use crate::container::Container;
use crate::exit;
use crate::files::EtcFiles;
use crate::health;
use crate::house::{House, blocking};
use crate::monitor::{MonitorClient, MonitorError, PendingReply};
use crate::mounts::prepare_sources;
use crate::ports::{Sandbox, SandboxRequest};
use crate::record::{NetworkMode, NetworkState, Record};
use crate::spec::user::Accounts;
use crate::spec::{self, Joined};
use crate::state::Status;
use crate::{Changed, links, logging, network, rootview, shm, time};

/// How long a start waits for the connection of an attach request that was answered already.
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

/// Exit code of a container that failed to start for no reason of its command's.
const START_FAILED: i32 = 128;

/// What the error of a runtime ends with that Docker's has no class of its own for.
pub const UNKNOWN: &str = ": unknown";

/// Starts a container for a user.
///
/// # Errors
/// Docker's: paused, being removed, and everything that can go wrong with a start.
pub async fn start(house: &Arc<House>, container: &Arc<Container>) -> Result<Changed> {
    let _operation = container.operation.lock().await;
    match container.record().state.status {
        Status::Running | Status::Restarting => return Ok(Changed::Unchanged),
        Status::Paused => {
            return Err(Error::conflict(
                "cannot start a paused container, try unpause instead",
            ));
        }
        Status::Removing | Status::Dead => {
            return Err(Error::conflict(
                "container is marked for removal and cannot be started",
            ));
        }
        Status::Created | Status::Exited => {}
    }
    if house.store.get(&container.id).is_none() {
        return Err(Error::not_found(format!(
            "No such container: {}",
            container.id
        )));
    }
    container.session().backoff.reset();
    container.change(|record| record.restart_count = 0);
    run(house, container).await.map(|()| Changed::Changed)
}

/// Starts a container; the caller holds its operation lock.
///
/// # Errors
/// As [`start`]. The record then says why, and an auto-remove container is gone.
pub async fn run(house: &Arc<House>, container: &Arc<Container>) -> Result<()> {
    let record = match follow_links(house, container) {
        Ok(record) => record,
        Err(error) => return failed(house, container, error.into()).await,
    };
    let mut run = Run {
        house,
        container,
        sandbox: None,
        monitor: None,
    };
    match run.start(&record).await {
        Ok(identity) => {
            let sandbox = run.sandbox.take();
            failpoint::reach("start-ran");
            started(house, container, identity, sandbox)
        }
        Err(failure) => {
            run.undo(&record).await;
            failed(house, container, failure).await
        }
    }
}

/// The record, with what its links come to now.
fn follow_links(house: &House, container: &Container) -> Result<Arc<Record>> {
    let record = container.record();
    if record.links.is_empty() {
        return Ok(record);
    }
    let linked = links::evaluate(house, &record)?;
    Ok(container.change(|record| record.linked = linked))
}

/// Why a start failed, and the exit code that tells it.
struct Failure {
    code: i32,
    error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: START_FAILED,
            error,
        }
    }
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        const FRONT: &str = "failed to create task for container: failed to create shim task: OCI runtime create \
                             failed: runc create failed: unable to start container process: ";
        let (code, text) = match &error {
            MonitorError::Refused(failure) => match failure.class {
                FailureClass::CommandNotFound => (127, &failure.message),
                FailureClass::CommandNotExecutable => (126, &failure.message),
                _ => (START_FAILED, &failure.message),
            },
            _ => {
                let text = format!("{FRONT}{error}");
                return Self {
                    code: START_FAILED,
                    error: Error::internal(text).with_source(error),
                };
            }
        };
        let init = if code == START_FAILED {
            ""
        } else {
            "error during container init: "
        };
        let text = format!("{FRONT}{init}{text}{UNKNOWN}");
        Self {
            code,
            error: Error::new(error.class(), text).with_source(error),
        }
    }
}

/// A start under way, and what has to be undone if it fails.
struct Run<'a> {
    house: &'a Arc<House>,
    container: &'a Arc<Container>,
    sandbox: Option<Sandbox>,
    monitor: Option<Arc<MonitorClient>>,
}

impl Run<'_> {
    async fn start(&mut self, record: &Arc<Record>) -> Result<ProcessIdentity, Failure> {
        let shared_netns = self.shared_netns(record)?;
        let joined = join_namespaces(self.house, record)?;
        let (made, coming) = oneshot::channel();
        let sandbox = network::request(record);
        let namespace = match sandbox {
            Some(_) => Namespace::Coming(coming),
            None => Namespace::There(shared_netns),
        };
        let (network, monitor) = tokio::join!(
            open_sandbox(self.house, sandbox, made),
            self.launch(record, joined, namespace)
        );
        // What succeeded is kept first, so that it is undone when the other failed.
        match (network, monitor) {
            (Ok(sandbox), Ok(monitor)) => {
                self.sandbox = sandbox;
                self.monitor = Some(monitor);
            }
            (Ok(sandbox), Err(error)) => {
                self.sandbox = sandbox;
                return Err(error);
            }
            (Err(error), monitor) => {
                self.monitor = monitor.ok();
                return Err(error.into());
            }
        }
        let Some(monitor) = self.monitor.clone() else {
            return Err(Error::internal("the monitor is missing").into());
        };
        if let Some(sandbox) = self
            .sandbox
            .as_ref()
            .filter(|own| !own.endpoints.is_empty())
        {
            let files = EtcFiles::new(&self.house.directory(&record.id));
            let sandboxes = &*self.house.ports.sandboxes;
            network::write_hosts(record, Some(sandbox), sandboxes, &files)?;
        }
        failpoint::reach("start-prepared");
        let mut attached = Vec::new();
        let handed_over = self.hand_over_clients(&monitor, &mut attached).await;
        let answer = match handed_over {
            Ok(()) => monitor.request(Request::Start, None).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Answer::Process(identity)) => Ok(identity),
            Ok(_) => Err(Error::internal("the monitor gave another answer than a process").into()),
            Err(error) => Err(first_refusal(attached).await.unwrap_or(error).into()),
        }
    }

    /// The network namespace of the container whose network is shared.
    fn shared_netns(&self, record: &Record) -> Result<Option<OwnedFd>> {
        let NetworkMode::Container(name) = record.network_mode() else {
            return Ok(None);
        };
        let other = running(self.house, &name, "network")?;
        let path = format!("/proc/{}/ns/net", other.state.pid);
        let file = File::open(&path)
            .map_err(|error| Error::internal(format!("cannot open {path}: {error}")))?;
        Ok(Some(file.into()))
    }

    /// Spawns the monitor while what it is to make is prepared, and has it make the container in the network namespace, which
    /// others may be filling still.
    async fn launch(
        &self,
        record: &Arc<Record>,
        joined: Joined,
        namespace: Namespace,
    ) -> Result<Arc<MonitorClient>, Failure> {
        let (house, record) = (Arc::clone(self.house), Arc::clone(record));
        let env = std::mem::take(&mut self.container.session().lent_env);
        let (launcher, id) = (Arc::clone(&house.ports.launcher), record.id);
        let (socket, launch) = tokio::join!(
            blocking(move || launcher.launch(&id)),
            blocking(move || prepare(&house, &record, joined, &env))
        );
        // A monitor whose socket is dropped ends.
        let (socket, launch) = (socket?, launch?);
        let (client, reader) = MonitorClient::new(socket)
            .map_err(|error| Error::internal(format!("cannot talk to the monitor: {error}")))?;
        exit::supervise(self.house, self.container, Arc::clone(&client), reader);
        let mounts = self.house.ports.launcher.empty_mounts();
        match create(&client, &launch, mounts, namespace).await {
            Ok(()) => Ok(client),
            Err(error) => {
                client.hang_up();
                Err(error.into())
            }
        }
    }

    /// From here on clients go straight to the monitor; those who waited are sent first.
    async fn hand_over_clients(
        &self,
        monitor: &Arc<MonitorClient>,
        attached: &mut Vec<PendingReply>,
    ) -> Result<(), MonitorError> {
        let arrived = self.container.clients_arrived();
        if tokio::time::timeout(ATTACH_PATIENCE, arrived)
            .await
            .is_err()
        {
            tracing::debug!(id = %self.container.id, "an attached client did not come");
        }
        let waiting = {
            let mut session = self.container.session();
            session.monitor = Some(Arc::clone(monitor));
            session.after_exit = exit::AfterExit::default();
            std::mem::take(&mut session.waiting)
        };
        for (client, socket) in waiting {
            let request = Request::Attach(client);
            attached.push(monitor.post(request, Some(socket.as_fd())).await?);
        }
        Ok(())
    }

    async fn undo(&mut self, record: &Arc<Record>) {
        {
            let mut session = self.container.session();
            session.monitor = None;
            session.waiting.clear();
        }
        if let Some(monitor) = self.monitor.take() {
            monitor.hang_up();
        }
        let own_sandbox = self.sandbox.take().is_some();
        let (house, record) = (Arc::clone(self.house), Arc::clone(record));
        let undone = blocking(move || {
            shm::unmount(&house, &record);
            // The record of the run before must not be taken for that of a run nobody knows of.
            let last = house.directory(&record.id).join(cais_monitor::exit::FILE);
            let _ = std::fs::remove_file(last);
            let cgroup = house.cgroup(&record.id, &record.host_config.resources.cgroup_parent);
            let cleared = house.ports.kernel.clear(&cgroup, None);
            house.ports.launcher.ended(&record.id);
            if own_sandbox {
                house.ports.sandboxes.close(&record.id)?;
            }
            cleared
        });
        if let Err(error) = undone.await {
            tracing::warn!(id = %self.container.id, %error, "cleaning up after a failed start");
        }
    }
}

/// A monitor that could not prepare the container says why in its first answer, whatever the request, and ends.
async fn first_refusal(replies: Vec<PendingReply>) -> Option<MonitorError> {
    for reply in replies {
        if let Err(error @ MonitorError::Refused(_)) = reply.wait().await {
            return Some(error);
        }
    }
    None
}

/// The network namespace of a container to be made.
enum Namespace {
    /// It is there, if it has one of its own or shares one.
    There(Option<OwnedFd>),
    /// It is being made.
    Coming(oneshot::Receiver<OwnedFd>),
}

async fn create(
    client: &MonitorClient,
    launch: &Launch,
    mounts: Option<BorrowedFd<'_>>,
    namespace: Namespace,
) -> Result<(), MonitorError> {
    client.launch(launch, mounts).await?;
    let netns = match namespace {
        Namespace::There(netns) => netns,
        Namespace::Coming(namespace) => match namespace.await {
            Ok(netns) => Some(netns),
            // There is none, and who makes it tells why.
            Err(_) => return Ok(()),
        },
    };
    let request = Request::Create {
        netns: netns.is_some(),
    };
    let netns = netns.as_ref().map(AsFd::as_fd);
    client.request(request, netns).await.map(drop)
}

async fn open_sandbox(
    house: &Arc<House>,
    request: Option<SandboxRequest>,
    made: oneshot::Sender<OwnedFd>,
) -> Result<Option<Sandbox>> {
    let Some(request) = request else {
        return Ok(None);
    };
    let house = Arc::clone(house);
    let made = Box::new(move |netns| drop(made.send(netns)));
    blocking(move || house.ports.sandboxes.open(&request, made))
        .await
        .map(Some)
}

/// The record of a running container that another one joins.
fn running(house: &House, name: &str, what: &str) -> Result<Arc<Record>> {
    let other = house.store.find(name)?;
    let record = other.record();
    if record.state.status == Status::Restarting {
        return Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            other.id
        )));
    }
    if !record.state.status.has_process() {
        return Err(Error::conflict(format!(
            "cannot join {what} namespace of a non running container: {}",
            other.id
        )));
    }
    Ok(record)
}

fn join_namespaces(house: &House, record: &Record) -> Result<Joined> {
    let host = &record.host_config;
    let mut joined = Joined::default();
    if let Some(name) = host.pid_mode.strip_prefix("container:") {
        let other = running(house, name, "PID")?;
        joined.pid = Some(PathBuf::from(format!("/proc/{}/ns/pid", other.state.pid)));
    }
    if let Some(name) = host.ipc_mode.strip_prefix("container:") {
        let other = running(house, name, "IPC")?;
        if other.host_config.ipc_mode != "shareable" {
            return Err(Error::invalid(format!(
                "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                 container)",
                other.id
            )));
        }
        joined.ipc = Some(PathBuf::from(format!("/proc/{}/ns/ipc", other.state.pid)));
        joined.shm = Some(house.shm(&other.id));
    } else if host.ipc_mode == "shareable" {
        joined.shm = Some(house.shm(&record.id));
    }
    Ok(joined)
}

/// Everything that needs a thread: files, and the specification.
fn prepare(house: &House, record: &Record, joined: Joined, env: &[String]) -> Result<Launch> {
    prepare_sources(&record.mounts)?;
    let own = house.directory(&record.id);
    // A record of the run before would be taken for this one's.
    let _ = std::fs::remove_file(own.join(cais_monitor::exit::FILE));
    let directory = match record.network_mode() {
        NetworkMode::Container(other) => house.directory(&house.store.find(&other)?.id),
        _ => {
            let files = EtcFiles::new(&own);
            network::write_names(record, &*house.ports.sandboxes, &files)?;
            network::write_hosts(record, None, &*house.ports.sandboxes, &files)?;
            own.clone()
        }
    };
    shm::mount(house, record)?;
    let dirs = house.ports.rootfs.dirs(&record.id, &record.image)?;
    let accounts = read_accounts(&dirs)?;
    let groups = record.host_config.group_add.as_deref().unwrap_or_default();
    let identity = accounts.identify(&record.config.user, groups)?;
    let input = spec::Input {
        record,
        config: &house.config,
        identity: &identity,
        joined: &joined,
        env,
        directory: &directory,
        cgroup: house.cgroup(&record.id, &record.host_config.resources.cgroup_parent),
    };
    Ok(Launch {
        id: record.id.to_string(),
        spec: spec::build(&input)?,
        rootfs: Rootfs::Overlay {
            lower: dirs.lower,
            upper: dirs.upper,
            work: dirs.work,
            durable: record.durability() == cais_state::Durability::Power,
        },
        log: log(record, &own)?,
        stdio: Stdio {
            terminal: record.config.tty,
            stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
        },
        directory: own,
        socket: house.socket(&record.id),
    })
}

/// The account files as the container sees them now.
///
/// # Errors
/// Those of reading the layers.
pub fn read_accounts(dirs: &crate::ports::OverlayDirs) -> Result<Accounts> {
    let read = |name| {
        rootview::read_file(dirs, "etc", name)
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                Error::internal(format!("cannot read /etc/{name} of the container: {error}"))
            })
    };
    Ok(Accounts {
        passwd: read("passwd")?,
        group: read("group")?,
    })
}

fn log(record: &Record, directory: &std::path::Path) -> Result<Log> {
    logging::target(record, directory)
}

fn started(
    house: &Arc<House>,
    container: &Arc<Container>,
    identity: ProcessIdentity,
    sandbox: Option<Sandbox>,
) -> Result<()> {
    let mode = container.record().network_mode();
    let network = network::state(&mode, sandbox, &*house.ports.sandboxes);
    let record = house.store.change(container, |record| {
        record
            .state
            .started(identity.pid, identity.start_time, time::now());
        record.former_addresses = network::addresses(&network);
        record.network = network;
        record.health = health::initial(&record.config);
    });
    container.life.send_modify(|life| life.running = true);
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            // The process runs; the record is written again at the next change.
            tracing::error!(id = %container.id, %error, "cannot write the record");
            container.record()
        }
    };
    network::announce(house, "connect", &record);
    links::tell(house, &record);
    house.events.container(&record, "start", &[]);
    health::watch(house, container);
    Ok(())
}

async fn failed(house: &Arc<House>, container: &Arc<Container>, failure: Failure) -> Result<()> {
    let text = failure.error.to_string();
    let record = container.change(|record| {
        record.state.start_failed(failure.code, text, time::now());
        record.network = NetworkState::default();
    });
    container.life.send_modify(|life| {
        life.code = failure.code;
        life.running = false;
    });
    let kept = if record.auto_remove() {
        crate::remove::discard(house, container, true).await
    } else {
        house.store.change(container, |_| {}).map(|_| ())
    };
    if let Err(error) = kept {
        tracing::warn!(id = %container.id, %error, "recording a failed start");
    }
    Err(failure.error)
}
