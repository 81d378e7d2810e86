//! Which builds go on, so that pruning leaves the containers of their steps alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use cais_types::api::query::Filters;
use cais_types::{ContainerId, Result};
use tokio::sync::{RwLock, RwLockReadGuard};

/// The label of a step's container: the id of its build.
pub const LABEL: &str = "io.cais.build";

/// The ids of builds that go on.
#[derive(Clone, Default)]
pub struct Running(Arc<RwLock<BTreeSet<String>>>);

/// A build that goes on until this is dropped, outside of async code.
pub struct Build {
    id: String,
    running: Running,
}

impl Running {
    /// A new build. It waits for a prune to end, so that none overlooks it.
    pub fn begin(&self) -> Result<Build> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?).to_string();
        self.0.blocking_write().insert(id.clone());
        Ok(Build {
            id,
            running: self.clone(),
        })
    }

    /// Takes the containers of builds out of what a prune removes; none begins until the answer is dropped.
    pub async fn spare(&self, filters: &mut Filters) -> RwLockReadGuard<'_, BTreeSet<String>> {
        let running = self.0.read().await;
        for id in running.iter() {
            filters.add("label!", format!("{LABEL}={id}"));
        }
        running
    }
}

impl Build {
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.running.0.blocking_write().remove(&self.id);
    }
}
