//! Containers: state machine, create, start, stop, exec, attach, logs, health, restart, events. Knows nothing of HTTP or of
//! the command line; the rooms below come in through the traits of [`ports`].

pub mod attach;
pub mod connect;
pub mod container;
pub mod containers;
pub mod create;
pub mod events;
pub mod exec;
pub mod exit;
mod files;
pub mod filter;
mod health;
pub mod house;
pub mod inspect;
pub mod kernel;
pub mod launcher;
mod links;
pub mod listing;
pub mod logging;
pub mod monitor;
pub mod mounts;
mod names;
mod network;
pub mod pause;
pub mod ports;
mod publish;
pub mod reconcile;
pub mod record;
mod remove;
mod rename;
mod replay;
pub mod restart;
pub mod rootview;
mod shm;
pub mod spec;
pub mod start;
pub mod state;
mod stop;
pub mod store;
pub mod time;
mod update;
mod wait;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use cais_state::Db;
use cais_types::{ClientConnection, Framing, Result};
use futures_core::Stream;
use futures_core::future::BoxFuture;

pub use containers::{Containers, Execs};
pub use house::{EngineConfig, House, Ports};

/// A stream of answers, each of which may fail.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Whether a request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The state is now as asked.
    Changed,
    /// The state was so already.
    Unchanged,
}

/// A checked attach or exec that only waits for the client's connection.
pub struct Hijack {
    /// How output is laid on the connection.
    pub framing: Framing,
    /// Takes the connection; ends once the connection is handed over.
    pub serve: Box<dyn FnOnce(ClientConnection) -> BoxFuture<'static, Result<()>> + Send>,
}

/// A container's log, ready to be sent.
pub struct Logs {
    pub framing: Framing,
    /// Framed (or raw) bytes.
    pub bytes: Answers<Bytes>,
}

/// The engine: its parts, and the handles over them.
#[derive(Clone)]
pub struct Engine {
    house: Arc<House>,
}

impl Engine {
    /// Reads the records; nothing is touched before [`Engine::reconcile`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the database, and of making the engine's directories.
    pub fn open(config: EngineConfig, ports: Ports, db: Arc<Db>) -> Result<Self> {
        Ok(Self {
            house: House::open(config, ports, db)?,
        })
    }

    /// Brings records and facts together; see [`reconcile`]. Call it once, before the API changes anything.
    ///
    /// # Errors
    /// Those of cleaning up, in the rooms below.
    pub async fn reconcile(&self) -> Result<()> {
        reconcile::reconcile(&self.house).await
    }

    /// What the services are built over.
    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// `/containers`, except exec.
    pub fn containers(&self) -> Containers {
        Containers::new(Arc::clone(&self.house))
    }

    /// `/containers/{id}/exec` and `/exec`.
    pub fn execs(&self) -> Execs {
        Execs::new(Arc::clone(&self.house))
    }

    /// The bus of events.
    pub fn events(&self) -> &Arc<events::Events> {
        &self.house.events
    }
}
