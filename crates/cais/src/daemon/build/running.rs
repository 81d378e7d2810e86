//! Which builds go on, so that pruning leaves the containers of their steps alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cais_engine::Containers;
pub use cais_engine::record::BUILD_LABEL as LABEL;
use cais_state::{Db, Durability};
use cais_types::api::query::{ContainerListQuery, Filters, RemoveQuery};
use cais_types::{ContainerId, Error, Result};
use tokio::sync::{RwLock, RwLockReadGuard};

/// Table of the ids of builds that go on, so that a daemon that was killed leaves none of their containers.
const BUILDS: &str = "build-running";

/// The ids of builds that go on.
#[derive(Clone)]
pub struct Running {
    db: Arc<Db>,
    ids: Arc<Mutex<BTreeSet<String>>>,
    /// Read by prunes, written by builds that begin.
    pruning: Arc<RwLock<()>>,
}

/// A build that goes on until this is dropped.
pub struct Build {
    id: String,
    running: Running,
}

impl Running {
    /// None goes on yet.
    pub fn new(db: Arc<Db>) -> Self {
        let (ids, pruning) = Default::default();
        Self { db, ids, pruning }
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the containers of builds that ended with a daemon that was killed.
    pub async fn remove_leftovers(&self, containers: &Containers) -> Result<()> {
        for (id, ()) in self.db.all::<()>(BUILDS).map_err(failed)? {
            let mut query = ContainerListQuery {
                all: true,
                ..ContainerListQuery::default()
            };
            query.filters.add("label", format!("{LABEL}={id}"));
            for container in containers.list(query).await? {
                remove(containers, &container.id).await?;
            }
            let delete = self.db.delete(Durability::Process, BUILDS, &id);
            delete.map_err(failed)?;
        }
        Ok(())
    }

    /// A new build, outside of async code. It waits for a prune to end, so that none overlooks it.
    pub fn begin(&self) -> Result<Build> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?).to_string();
        let _pruning = self.pruning.blocking_write();
        self.ids().insert(id.clone());
        let build = Build {
            id,
            running: self.clone(),
        };
        let put = self.db.put(Durability::Process, BUILDS, &build.id, &());
        put.map_err(failed)?;
        Ok(build)
    }

    /// Takes the containers of builds out of what a prune removes; none begins until the answer is dropped.
    pub async fn spare(&self, filters: &mut Filters) -> RwLockReadGuard<'_, ()> {
        let pruning = self.pruning.read().await;
        for id in self.ids().iter() {
            filters.add("label!", format!("{LABEL}={id}"));
        }
        pruning
    }
}

impl Build {
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.running.ids().remove(&self.id);
        let deleted = self
            .running
            .db
            .delete(Durability::Process, BUILDS, &self.id);
        if let Err(error) = deleted {
            tracing::warn!(%error, "the build is taken for one that goes on until the next start");
        }
    }
}

/// Removes a container of a step, whatever it does.
pub async fn remove(containers: &Containers, id: &str) -> Result<()> {
    let query = RemoveQuery {
        force: true,
        volumes: true,
        link: false,
    };
    containers.remove(id, query).await
}

fn failed(error: cais_state::StateError) -> Error {
    Error::internal(format!("running builds: {error}")).with_source(error)
}
