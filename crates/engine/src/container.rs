//! A container in memory: its snapshot for readers, its lock for those who change it, and what is alive about it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cais_monitor::protocol::Client;
use cais_types::{ContainerId, Error, Result};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::exit::AfterExit;
use crate::monitor::MonitorClient;
use crate::record::Record;
use crate::restart::Backoff;

/// What waiters wait for.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub running: bool,
    /// How often it has ended.
    pub exits: u64,
    /// Of the latest end.
    pub code: i32,
    pub removed: bool,
    /// Why a removal after the end failed.
    pub removal_error: Option<String>,
}

/// What is alive about a container; never in the database.
#[derive(Default)]
pub struct Session {
    /// Set while the monitor runs.
    pub monitor: Option<Arc<MonitorClient>>,
    /// Clients that wait for the next start.
    pub waiting: Vec<(Client, OwnedFd)>,
    /// What shall happen when it has ended.
    pub after_exit: AfterExit,
    pub backoff: Backoff,
    /// Variables of the next start that are in no record.
    pub lent_env: Vec<String>,
    /// The sleep before the next automatic start.
    pub restart: Option<AbortHandle>,
    /// The health prober.
    pub health: Option<AbortHandle>,
}

impl Session {
    /// Ends the health prober.
    pub fn stop_watching(&mut self) {
        if let Some(task) = self.health.take() {
            task.abort();
        }
    }

    /// Gives an automatic start up that has not begun.
    pub fn cancel_restart(&mut self) {
        if let Some(task) = self.restart.take() {
            task.abort();
        }
    }
}

/// One container.
pub struct Container {
    pub id: ContainerId,
    record: RwLock<Arc<Record>>,
    /// Held by whoever changes the state. Never taken by readers.
    pub operation: tokio::sync::Mutex<()>,
    pub life: watch::Sender<Life>,
    session: Mutex<Session>,
    /// Attach requests that were accepted and whose connection is not here yet.
    expected: AtomicUsize,
    arrived: Notify,
}

/// An accepted attach request on its way; a start waits for it, so that no first line is lost.
pub struct AttachTicket(Arc<Container>);

impl Container {
    /// Wraps a record.
    pub fn new(record: Record) -> Arc<Self> {
        let life = Life {
            running: record.state.status.is_running(),
            code: record.state.exit_code,
            ..Life::default()
        };
        Arc::new(Self {
            id: record.id,
            record: RwLock::new(Arc::new(record)),
            operation: tokio::sync::Mutex::new(()),
            life: watch::Sender::new(life),
            session: Mutex::new(Session::default()),
            expected: AtomicUsize::new(0),
            arrived: Notify::new(),
        })
    }

    /// The snapshot as it is now.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the snapshot and answers the new one. Only for holders of `operation`, or for single fields.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Arc<Record> {
        let mut slot = self.record.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut slot));
        Arc::clone(&slot)
    }

    /// What is alive; held for moments only, never over an await.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The monitor of a running container.
    ///
    /// # Errors
    /// `container ID is not running`.
    pub fn monitor(&self) -> Result<Arc<MonitorClient>> {
        self.session()
            .monitor
            .clone()
            .ok_or_else(|| self.not_running())
    }

    /// Docker's error for what needs a process.
    pub fn not_running(&self) -> Error {
        Error::conflict(format!("container {} is not running", self.id))
    }

    /// Announces an attach request.
    pub fn expect_client(self: &Arc<Self>) -> AttachTicket {
        self.expected.fetch_add(1, Ordering::AcqRel);
        AttachTicket(Arc::clone(self))
    }

    /// Waits until no announced attach request is outstanding.
    pub async fn clients_arrived(&self) {
        loop {
            let arrived = self.arrived.notified();
            if self.expected.load(Ordering::Acquire) == 0 {
                return;
            }
            arrived.await;
        }
    }
}

impl Drop for AttachTicket {
    fn drop(&mut self) {
        self.0.expected.fetch_sub(1, Ordering::AcqRel);
        self.0.arrived.notify_waiters();
    }
}
