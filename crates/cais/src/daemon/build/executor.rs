//! Steps run as containers of the engine: with its isolation, its network and its limits.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cais_build::cancel::Cancellation;
use cais_build::messages::canceled;
use cais_build::ports::{Executor, Ran, RunEvents, RunStep, StepMount, Stream};
use cais_engine::{Containers, Engine};
use cais_session::borrower::Sessions;
use cais_sys::failpoint;
use cais_types::api::query::{AttachQuery, WaitCondition};
use cais_types::api::{
    ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig, LogConfig, Mount,
    TmpfsOptions, Ulimit,
};
use cais_types::{ClientConnection, ContainerId, Error, Result};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::caches::{self, Caches, Wanted};
use super::loans::Lender;
use super::running::{Build, LABEL, Running, remove};
use super::trees::{self, Attached, Trees};

/// Bytes before each piece of output.
const HEADER: usize = 8;
/// The most bytes of output in one message.
const PIECE: usize = 64 * 1024;

/// Runs steps for one client.
pub struct Steps {
    pub build: Build,
    pub engine: Engine,
    pub handle: Handle,
    pub caches: Caches,
    pub trees: Trees,
    pub sessions: Sessions,
}

/// A container that a step runs in.
struct Watch<'a> {
    containers: &'a Containers,
    id: &'a str,
    canceled: &'a Cancellation,
}

impl Executor for Steps {
    fn run(&self, mut step: RunStep, events: &mut dyn RunEvents) -> Result<Ran> {
        let canceled = step.canceled.clone();
        let _held = caches::hold(&mut step.mounts, &canceled)?;
        let lender = Lender {
            sessions: &self.sessions,
            handle: &self.handle,
            trees: &self.trees,
        };
        let mut lent = lender.lend(&mut step)?;
        let mut attached = Vec::new();
        let mut request = self.container(step, &mut attached)?;
        request.host_config.mounts.append(&mut lent.mounts);
        failpoint::reach("build-attached");
        let containers = self.engine.containers();
        let made = self
            .handle
            .block_on(containers.create(None, None, request))?;
        let id: ContainerId = made
            .id
            .parse()
            .map_err(|_| Error::internal("the engine made a container without an id"))?;
        failpoint::reach("build-container");
        containers.lend_env(&made.id, std::mem::take(&mut lent.env))?;
        let watch = Watch {
            containers: &containers,
            id: &made.id,
            canceled: &canceled,
        };
        let run = events
            .started(&id)
            .and_then(|()| self.handle.block_on(self.watch(watch, events)));
        failpoint::reach("build-ran");
        match run {
            Ok(code) => Ok(Ran {
                code,
                container: id,
            }),
            Err(error) => {
                self.discard(&id)?;
                Err(error)
            }
        }
    }

    fn discard(&self, container: &ContainerId) -> Result<()> {
        let id = container.to_string();
        self.handle.block_on(remove(&self.engine.containers(), &id))
    }
}

/// Removes what builds of a killed daemon left: containers, mounts and contexts.
pub async fn remove_leftovers(engine: &Engine, running: &Running, directory: &std::path::Path) {
    if let Err(error) = running.remove_leftovers(&engine.containers()).await {
        tracing::warn!(%error, "containers of builds that ended badly stay");
    }
    trees::remove_leftovers(&directory.join("mounts"));
    if let Err(error) = caches::remove_leftovers(&directory.join("caches")) {
        tracing::warn!(%error, "caches that are half made stay");
    }
    if let Err(error) = super::context::remove(&directory.join("contexts")) {
        tracing::warn!(%error, "contexts of builds that ended badly stay");
    }
}

impl Steps {
    /// Starts a container and passes its output on until it ends; answers its exit code.
    async fn watch(&self, watch: Watch<'_>, events: &mut dyn RunEvents) -> Result<i64> {
        let Watch { containers, id, .. } = watch;
        let given_up = Arc::new(Notify::new());
        let notify = Arc::clone(&given_up);
        // A permit stays for who comes to wait later.
        let _told = watch.canceled.on_set(move || notify.notify_one());
        let (ours, theirs) = UnixStream::pair().map_err(io)?;
        ours.set_nonblocking(true).map_err(io)?;
        let mut ours = tokio::net::UnixStream::from_std(ours).map_err(io)?;
        let query = AttachQuery {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachQuery::default()
        };
        let attach = containers.attach(id, query).await?;
        let connection = ClientConnection {
            socket: theirs.into(),
            unread: Vec::new(),
        };
        (attach.serve)(connection).await?;
        let exit = containers.wait(id, WaitCondition::NextExit).await?;
        containers.start(id, None).await?;
        tokio::select! {
            output = output(&mut ours, events) => output?,
            () = given_up.notified() => return Err(canceled()),
        }
        Ok(exit.await?.status_code)
    }

    fn container(
        &self,
        step: RunStep,
        attached: &mut Vec<Attached>,
    ) -> Result<ContainerCreateRequest> {
        let image = step.image.map_or(String::new(), |id| id.to_string());
        let mounts = step
            .mounts
            .into_iter()
            .map(|mount| self.mount(mount, attached))
            .collect::<Result<Vec<_>>>()?;
        let host = step.host;
        let config = ContainerConfig {
            image,
            cmd: Some(step.argv),
            // The image's own would stand before the command.
            entrypoint: Some(vec![String::new()]),
            env: step.env,
            user: step.user,
            working_dir: step.working_dir,
            labels: [(LABEL.to_owned(), self.build.id().to_owned())].into(),
            healthcheck: Some(HealthConfig {
                test: vec!["NONE".to_owned()],
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        };
        let mut host_config = HostConfig {
            network_mode: step.network,
            extra_hosts: Some(host.extra_hosts).filter(|list| !list.is_empty()),
            shm_size: host.shm_size,
            security_opt: Some(host.security_opt).filter(|list| !list.is_empty()),
            mounts,
            log_config: LogConfig {
                r#type: "none".to_owned(),
                ..LogConfig::default()
            },
            ..HostConfig::default()
        };
        let resources = &mut host_config.resources;
        resources.memory = host.memory;
        resources.memory_swap = host.memory_swap;
        resources.cpu_shares = host.cpu_shares;
        resources.cpu_period = host.cpu_period;
        resources.cpu_quota = host.cpu_quota;
        resources.cpuset_cpus = host.cpuset_cpus;
        resources.cpuset_mems = host.cpuset_mems;
        resources.cgroup_parent = host.cgroup_parent;
        let ulimits: Vec<Ulimit> = host
            .ulimits
            .into_iter()
            .map(|(name, soft, hard)| Ulimit { name, hard, soft })
            .collect();
        resources.ulimits = Some(ulimits).filter(|list| !list.is_empty());
        Ok(ContainerCreateRequest {
            config,
            host_config,
            networking_config: None,
        })
    }

    /// A mount as the engine takes it; what it needs on the host stays as long as `attached`.
    fn mount(&self, mount: StepMount, attached: &mut Vec<Attached>) -> Result<Mount> {
        match mount {
            StepMount::Context {
                source,
                target,
                read_only,
            } => Ok(bind(&source, target, read_only)),
            StepMount::Tree {
                root,
                path,
                target,
                read_only,
            } => {
                let tree = self.trees.attach(&root, &path)?;
                let mount = bind(&tree.path(), target, read_only);
                attached.push(tree);
                Ok(mount)
            }
            StepMount::Loan { id, .. } => {
                Err(Error::internal(format!("the mount of {id} was not filled")))
            }
            StepMount::Tmpfs { target, size } => Ok(Mount {
                r#type: "tmpfs".to_owned(),
                target,
                tmpfs_options: Some(TmpfsOptions {
                    size_bytes: size,
                    ..TmpfsOptions::default()
                }),
                ..Mount::default()
            }),
            StepMount::Cache {
                id,
                base,
                path,
                target,
                read_only,
                mode,
                owner,
                ..
            } => {
                let wanted = Wanted {
                    id: &id,
                    target: &target,
                    mode,
                    owner,
                    base: base.as_ref().map(|root| (root, path.as_str())),
                };
                let directory = self.caches.directory(&wanted, &self.trees)?;
                if base.is_some() || path == "/" {
                    return Ok(bind(&directory, target, read_only));
                }
                let part = self.trees.attach_directory(&directory, &path)?;
                let mount = bind(&part.path(), target, read_only);
                attached.push(part);
                Ok(mount)
            }
        }
    }
}

/// A path of the host as it is seen at another one.
pub fn bind(source: &std::path::Path, target: String, read_only: bool) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target,
        read_only,
        ..Mount::default()
    }
}

fn io(error: std::io::Error) -> Error {
    Error::internal(format!("build step: {error}")).with_source(error)
}

/// Reads framed output until the container closes it.
async fn output(socket: &mut tokio::net::UnixStream, events: &mut dyn RunEvents) -> Result<()> {
    let mut header = [0; HEADER];
    let mut piece = vec![0; PIECE];
    loop {
        match socket.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(io(error)),
        }
        let stream = if header[0] == 2 {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        let mut left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        while left > 0 {
            let want = left.min(PIECE);
            socket.read_exact(&mut piece[..want]).await.map_err(io)?;
            events.output(stream, &piece[..want])?;
            left -= want;
        }
    }
}
