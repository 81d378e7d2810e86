//! Names for containers: the resolver at 127.0.0.11 in every network that a user made. Its sockets are in the containers'
//! namespaces and its one thread is in the daemon; it knows who is where from the [`Directory`], and passes other questions
//! on. Started by the store with the first container that needs it; knows no container but by id.

mod answer;
mod directory;
mod forward;
mod outside;
mod remembered;
mod server;
mod sockets;
mod stream;
mod token;
mod upstreams;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use cais_types::ContainerId;
use rustix::event::{EventfdFlags, eventfd};

pub use directory::{Directory, Found, Member};
pub use sockets::{ADDRESS, Sockets, open_here, open_in, rule_set};
pub use upstreams::{Place, Upstream, given};

use server::Server;
use upstreams::HostFile;

/// How the questions of one container are handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Resolvers outside; none stands for those of the host's resolv.conf.
    pub servers: Vec<Upstream>,
    /// Whether questions for other names may leave the host: not from networks that are all internal.
    pub forwards: bool,
    /// Whether names without a dot stay here, because the user set `ndots`.
    pub keeps_single_labels: bool,
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    Add(ContainerId, Sockets, Settings),
    Set(ContainerId, Settings),
    Remove(ContainerId),
    Quit,
}

/// What the thread and the store share.
#[derive(Debug)]
struct Shared {
    directory: RwLock<Directory>,
    /// Counts the changes of the directory.
    version: AtomicU64,
    commands: Mutex<Vec<Command>>,
    wake: OwnedFd,
}

impl Shared {
    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver of all containers.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Shared>,
    host_file: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Dns {
    /// A resolver that passes questions on to the resolvers in `host_file`. It has no thread before it has a client.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new(host_file: &Path) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            shared: Arc::new(Shared {
                directory: RwLock::default(),
                version: AtomicU64::default(),
                commands: Mutex::default(),
                wake,
            }),
            host_file: host_file.to_owned(),
            thread: Mutex::default(),
        })
    }

    /// Changes who has which name.
    pub fn change(&self, change: impl FnOnce(&mut Directory)) {
        let directory = self.shared.directory.write();
        let mut directory = directory.unwrap_or_else(PoisonError::into_inner);
        change(&mut directory);
        // With the lock held: who read the version before the change reads another one after it.
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Answers a container's questions from now on. Must be called in the host's network namespace.
    pub fn serve(&self, container: ContainerId, sockets: Sockets, settings: Settings) {
        self.tell(Command::Add(container, sockets, settings));
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            *thread = self.start();
        }
    }

    /// Handles a container's questions in another way.
    pub fn set(&self, container: ContainerId, settings: Settings) {
        self.tell(Command::Set(container, settings));
    }

    /// Answers a container no more, and lets go of its namespace.
    pub fn stop(&self, container: ContainerId) {
        if lock(&self.thread).is_some() {
            self.tell(Command::Remove(container));
        }
    }

    fn tell(&self, command: Command) {
        lock(&self.shared.commands).push(command);
        // Fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }

    fn start(&self) -> Option<JoinHandle<()>> {
        let (shared, file) = (Arc::clone(&self.shared), HostFile::new(&self.host_file));
        let run = move || {
            if let Err(error) = Server::new(shared, file).and_then(Server::run) {
                tracing::error!(%error, "the resolver of the containers ended");
            }
        };
        let thread = thread::Builder::new().name("dns".to_owned()).spawn(run);
        thread
            .inspect_err(|error| tracing::error!(%error, "no thread for the resolver"))
            .ok()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            self.tell(Command::Quit);
            let _ = thread.join();
        }
    }
}
