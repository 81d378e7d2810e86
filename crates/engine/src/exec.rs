//! Processes added to a running container: create, start, inspect, resize. Execs live in memory and in the monitor: they
//! do not outlive their container.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cais_monitor::protocol::{
    Answer, Client, Failure, FailureClass, ProcessIdentity, Request, Status as MonitorStatus,
};
use cais_types::api::query::TtySize;
use cais_types::api::{
    ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcessConfig, ExecStartRequest,
};
use cais_types::{ClientConnection, ContainerId, Error, ErrorClass, ExecId, Framing, Result};
use tokio::sync::watch;

use crate::container::Container;
use crate::house::{House, blocking};
use crate::monitor::MonitorError;
use crate::state::Status;
use crate::{Hijack, attach, create, spec, start};

/// How long an ended exec can still be inspected.
const KEPT: Duration = Duration::from_secs(300);
/// Exit code of an exec whose container ended first.
const KILLED: i32 = 137;

/// How far an exec has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    Created,
    /// The monitor was asked.
    Starting,
    Running(ProcessIdentity),
    Ended(i32),
}

/// One exec.
pub struct Exec {
    pub id: ExecId,
    pub container: ContainerId,
    pub request: ExecCreateRequest,
    detach_keys: Vec<u8>,
    pub state: watch::Sender<ExecState>,
    ended: Mutex<Option<Instant>>,
}

/// All execs.
#[derive(Default)]
pub struct ExecTable {
    execs: Mutex<HashMap<ExecId, Arc<Exec>>>,
}

impl ExecTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds an exec.
    ///
    /// # Errors
    /// `No such exec instance: ID`.
    pub fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let found = id
            .parse()
            .ok()
            .and_then(|id: ExecId| self.lock().get(&id).cloned());
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// Adds one, and forgets those that ended long ago.
    fn insert(&self, exec: Arc<Exec>) {
        let mut execs = self.lock();
        execs.retain(|_, exec| {
            let ended = *exec.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.is_none_or(|at| at.elapsed() < KEPT)
        });
        execs.insert(exec.id, exec);
    }

    /// The execs of a container that have not ended.
    pub fn of(&self, container: &ContainerId) -> Vec<Arc<Exec>> {
        let mut execs: Vec<_> = self
            .lock()
            .values()
            .filter(|exec| exec.container == *container)
            .filter(|exec| !matches!(*exec.state.borrow(), ExecState::Ended(_)))
            .cloned()
            .collect();
        execs.sort_by_key(|exec| exec.id);
        execs
    }

    /// Forgets the execs of a removed container.
    pub fn forget_container(&self, container: &ContainerId) {
        self.lock().retain(|_, exec| exec.container != *container);
    }
}

impl Exec {
    fn command(&self) -> String {
        self.request.cmd.join(" ")
    }

    /// Moves to the end; false when it has ended already.
    fn end(&self, code: i32) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.state.send_if_modified(|state| {
            let first = !matches!(state, ExecState::Ended(_));
            *state = if first {
                ExecState::Ended(code)
            } else {
                *state
            };
            first
        })
    }
}

/// The monitor says that an exec has ended.
pub fn ended(house: &House, exec_id: &str, code: i32) {
    let Ok(exec) = house.execs.find(exec_id) else {
        return;
    };
    if exec.end(code) {
        announce_end(house, &exec, code);
    }
}

fn announce_end(house: &House, exec: &Exec, code: i32) {
    if let Some(container) = house.store.get(&exec.container) {
        let extra = [
            ("execID", exec.id.to_string()),
            ("exitCode", code.to_string()),
        ];
        house
            .events
            .container(&container.record(), "exec_die", &extra);
    }
}

/// A container has ended: whatever was running in it has too.
pub fn container_ended(house: &House, container: &ContainerId) {
    for exec in house.execs.of(container) {
        let begun = *exec.state.borrow() != ExecState::Created;
        if begun && exec.end(KILLED) {
            announce_end(house, &exec, KILLED);
        }
    }
}

/// Takes over what a monitor knows after a restart of the daemon.
pub fn adopt(house: &House, container: &ContainerId, status: &MonitorStatus) {
    let request = ExecCreateRequest::default;
    let running = status
        .running
        .iter()
        .map(|(id, who)| (id, ExecState::Running(*who)));
    let ended = status
        .ended
        .iter()
        .map(|(id, code)| (id, ExecState::Ended(*code)));
    for (id, state) in running.chain(ended) {
        let Ok(id) = id.parse() else { continue };
        let done = matches!(state, ExecState::Ended(_)).then(Instant::now);
        house.execs.insert(Arc::new(Exec {
            id,
            container: *container,
            request: request(),
            detach_keys: Vec::new(),
            state: watch::Sender::new(state),
            ended: Mutex::new(done),
        }));
    }
}

/// `POST /containers/{id}/exec`.
///
/// # Errors
/// Not running, paused or restarting container, no command, wrong detach keys, in Docker's words.
pub fn create(
    house: &House,
    container: &Container,
    name: &str,
    request: ExecCreateRequest,
) -> Result<ExecCreateResponse> {
    check_container(container, name)?;
    if request.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let keys = attach::detach_keys(Some(&request.detach_keys))?;
    let id = ExecId::from_bytes(create::random()?);
    let exec = Arc::new(Exec {
        id,
        container: container.id,
        detach_keys: if request.tty { keys } else { Vec::new() },
        request,
        state: watch::Sender::new(ExecState::Created),
        ended: Mutex::new(None),
    });
    let action = format!("exec_create: {}", exec.command());
    house.execs.insert(exec);
    house
        .events
        .container(&container.record(), &action, &[("execID", id.to_string())]);
    Ok(ExecCreateResponse { id: id.to_string() })
}

fn check_container(container: &Container, name: &str) -> Result<()> {
    match container.record().state.status {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "Container {name} is restarting, wait until the container is running"
        ))),
        _ => Err(container.not_running()),
    }
}

/// Takes the right to start an exec, which can be done once.
fn claim(exec: &Exec) -> Result<()> {
    let mut before = ExecState::Created;
    exec.state.send_if_modified(|state| {
        before = *state;
        let fresh = *state == ExecState::Created;
        if fresh {
            *state = ExecState::Starting;
        }
        fresh
    });
    match before {
        ExecState::Created => Ok(()),
        ExecState::Ended(_) => Err(Error::conflict(format!(
            "Error: Exec command {} has already run",
            exec.id
        ))),
        _ => Err(Error::conflict(format!(
            "Error: Exec command {} is already running",
            exec.id
        ))),
    }
}

fn container_of(house: &House, exec: &Exec) -> Result<Arc<Container>> {
    let container = house.store.get(&exec.container);
    container.ok_or_else(|| Error::not_found(format!("No such container: {}", exec.container)))
}

/// Attached start; the process begins when the connection is served.
///
/// # Errors
/// No such exec, or it has been started already.
pub fn start_attached(house: &Arc<House>, id: &str, request: &ExecStartRequest) -> Result<Hijack> {
    let exec = house.execs.find(id)?;
    let container = container_of(house, &exec)?;
    check_container(&container, &container.id.to_string())?;
    claim(&exec)?;
    let framing = if request.tty {
        Framing::Raw
    } else {
        Framing::Multiplexed
    };
    let size = request.console_size;
    let house = Arc::clone(house);
    let serve = move |connection: ClientConnection| -> futures_core::future::BoxFuture<'static, _> {
        Box::pin(async move {
            let ClientConnection { socket, unread } = connection;
            let client = Client {
                framing,
                stdin: exec.request.attach_stdin,
                stdout: exec.request.attach_stdout,
                stderr: exec.request.attach_stderr,
                detach_keys: exec.detach_keys.clone(),
                unread,
            };
            let attached = Some((client, socket.as_fd()));
            let Err(error) = begin(&house, &container, &exec, attached, size).await else {
                return Ok(());
            };
            // The answer's status is out already: the text goes where the output would have gone.
            let _ = rustix::io::write(&socket, &framed(framing, &format!("{error}\r\n")));
            Err(error)
        })
    };
    Ok(Hijack {
        framing,
        serve: Box::new(serve),
    })
}

fn framed(framing: Framing, text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + text.len());
    if framing == Framing::Multiplexed {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// Detached start.
///
/// # Errors
/// As [`start_attached`], and what goes wrong with the process.
pub async fn start_detached(house: &Arc<House>, id: &str) -> Result<()> {
    let exec = house.execs.find(id)?;
    let container = container_of(house, &exec)?;
    check_container(&container, &container.id.to_string())?;
    claim(&exec)?;
    begin(house, &container, &exec, None, None).await
}

/// Starts an exec whose output goes to a client; for probes of health.
///
/// # Errors
/// What goes wrong with the process.
pub async fn probe(
    house: &Arc<House>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    client: (Client, std::os::fd::BorrowedFd<'_>),
) -> Result<()> {
    claim(exec)?;
    begin(house, container, exec, Some(client), None).await
}

async fn begin(
    house: &Arc<House>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    client: Option<(Client, std::os::fd::BorrowedFd<'_>)>,
    size: Option<[u32; 2]>,
) -> Result<()> {
    let result = run(house, container, exec, client, size).await;
    let error = match result {
        Ok(identity) => {
            exec.state.send_if_modified(|state| {
                let starting = *state == ExecState::Starting;
                if starting {
                    *state = ExecState::Running(identity);
                }
                starting
            });
            return Ok(());
        }
        Err(error) => error,
    };
    let (code, error) = translate(error);
    exec.end(code);
    Err(error)
}

enum RunError {
    Engine(Error),
    Monitor(MonitorError),
}

async fn run(
    house: &Arc<House>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    client: Option<(Client, std::os::fd::BorrowedFd<'_>)>,
    size: Option<[u32; 2]>,
) -> Result<ProcessIdentity, RunError> {
    let record = container.record();
    let monitor = container.monitor().map_err(RunError::Engine)?;
    let (home, task) = (Arc::clone(house), Arc::clone(exec));
    let seen = Arc::clone(&record);
    // Reading the account files is some system calls on directories that are in the cache.
    let process = blocking(move || {
        let dirs = home.ports.rootfs.dirs(&seen.id, &seen.image)?;
        let accounts = start::read_accounts(&dirs)?;
        let asked = task.request.user.as_str();
        let user = if asked.is_empty() {
            seen.config.user.as_str()
        } else {
            asked
        };
        let groups = seen.host_config.group_add.as_deref().unwrap_or_default();
        let identity = accounts.identify(user, groups)?;
        let mut request = task.request.clone();
        request.console_size = size.or(request.console_size);
        spec::exec_process(&seen, &request, &identity, &home.config)
    })
    .await
    .map_err(RunError::Engine)?;
    let action = format!("exec_start: {}", exec.command());
    house
        .events
        .container(&record, &action, &[("execID", exec.id.to_string())]);
    let (client, socket) = client.unzip();
    let request = Request::Exec {
        exec_id: exec.id.to_string(),
        process: Box::new(process),
        stdin: exec.request.attach_stdin,
        client,
    };
    match monitor
        .request(request, socket)
        .await
        .map_err(RunError::Monitor)?
    {
        Answer::Process(identity) => Ok(identity),
        _ => Err(RunError::Engine(Error::internal(
            "the monitor gave another answer than a process",
        ))),
    }
}

/// Exit code and error of an exec that did not start.
fn translate(error: RunError) -> (i32, Error) {
    const FRONT: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";
    let error = match error {
        RunError::Engine(error) => return (126, error),
        RunError::Monitor(error) => error,
    };
    let MonitorError::Refused(Failure { class, message }) = &error else {
        return (126, error.into());
    };
    let (code, class) = match class {
        FailureClass::CommandNotFound => (127, ErrorClass::Invalid),
        FailureClass::CommandNotExecutable => (126, ErrorClass::Invalid),
        FailureClass::NotRunning => (KILLED, ErrorClass::Conflict),
        FailureClass::Invalid => (126, ErrorClass::Invalid),
        FailureClass::Internal => (126, ErrorClass::Internal),
    };
    (
        code,
        Error::new(class, format!("{FRONT}{message}{}", start::UNKNOWN)).with_source(error),
    )
}

/// `GET /exec/{id}/json`. An exec that seems to run is asked about, so that news on their way are counted.
///
/// # Errors
/// `No such exec instance: ID`.
pub async fn inspect(house: &House, id: &str) -> Result<ExecInspect> {
    let exec = house.execs.find(id)?;
    let seems_running = matches!(
        *exec.state.borrow(),
        ExecState::Running(_) | ExecState::Starting
    );
    if seems_running && let Some(container) = house.store.get(&exec.container) {
        let monitor = container.session().monitor.clone();
        if let Some(monitor) = monitor {
            // What the monitor said before its answer is heard before the answer; the answer itself is not needed.
            let _ = monitor.request(Request::Status, None).await;
        }
    }
    let state = *exec.state.borrow();
    let request = &exec.request;
    let (running, exit_code, pid) = match state {
        ExecState::Created => (false, None, 0),
        ExecState::Starting => (true, None, 0),
        ExecState::Running(identity) => (true, None, identity.pid),
        ExecState::Ended(code) => (false, Some(i64::from(code)), 0),
    };
    let mut words = request.cmd.iter().cloned();
    Ok(ExecInspect {
        id: exec.id.to_string(),
        running,
        exit_code,
        process_config: ExecProcessConfig {
            tty: request.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: Some(request.privileged),
            user: request.user.clone(),
        },
        open_stdin: request.attach_stdin,
        open_stderr: request.attach_stderr,
        open_stdout: request.attach_stdout,
        can_remove: exit_code.is_some(),
        container_id: exec.container.to_string(),
        detach_keys: String::new(),
        pid: pid.into(),
    })
}

/// `POST /exec/{id}/resize`.
///
/// # Errors
/// No such exec, or it does not run.
pub async fn resize(house: &House, id: &str, size: TtySize) -> Result<()> {
    let exec = house.execs.find(id)?;
    let container = container_of(house, &exec)?;
    let mut state = exec.state.subscribe();
    // Clients resize at once after the start; the process may be on its way.
    let begun = state
        .wait_for(|state| *state != ExecState::Starting)
        .await
        .map(|state| *state);
    if !matches!(begun, Ok(ExecState::Running(_))) {
        return Err(Error::conflict(format!("exec {id} is not running")));
    }
    let request = Request::Resize {
        exec_id: Some(exec.id.to_string()),
        rows: size.height,
        columns: size.width,
    };
    container.monitor()?.request(request, None).await?;
    Ok(())
}

/// Makes an exec that no client knows of, for a probe of health.
pub fn internal(
    house: &House,
    container: &Container,
    request: ExecCreateRequest,
) -> Result<Arc<Exec>> {
    let created = create(house, container, &container.id.to_string(), request)?;
    house.execs.find(&created.id)
}
