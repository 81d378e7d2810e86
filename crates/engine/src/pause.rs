//! `pause` and `unpause`: the freezer of the container's cgroup.

use std::sync::Arc;

use cais_types::{Error, Result};

use crate::container::Container;
use crate::house::{House, blocking};
use crate::state::Status;

/// `POST /containers/{id}/pause`.
///
/// # Errors
/// Not running, restarting or paused already, in Docker's words.
pub async fn pause(house: &Arc<House>, container: &Arc<Container>) -> Result<()> {
    let _operation = container.operation.lock().await;
    let id = container.id;
    match container.record().state.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Error::conflict(format!("Container {id} is already paused")));
        }
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "Container {id} is restarting, wait until the container is running"
            )));
        }
        _ => return Err(container.not_running()),
    }
    freeze(house, container, true).await?;
    let record = house
        .store
        .change(container, |record| record.state.status = Status::Paused)?;
    container.session().stop_watching();
    house.events.container(&record, "pause", &[]);
    Ok(())
}

/// `POST /containers/{id}/unpause`.
///
/// # Errors
/// `Container ID is not paused`.
pub async fn unpause(house: &Arc<House>, container: &Arc<Container>) -> Result<()> {
    let _operation = container.operation.lock().await;
    if !is_paused(container) {
        return Err(Error::internal(format!(
            "Container {} is not paused",
            container.id
        )));
    }
    freeze(house, container, false).await?;
    let record = house
        .store
        .change(container, |record| record.state.status = Status::Running)?;
    house.events.container(&record, "unpause", &[]);
    crate::health::watch(house, container);
    Ok(())
}

/// Whether a container is paused.
pub fn is_paused(container: &Container) -> bool {
    container.record().state.status == Status::Paused
}

/// Lets a container that was paused run, so that a signal which is already sent can end it.
pub async fn thaw_to_die(house: &Arc<House>, container: &Arc<Container>) {
    if let Err(error) = freeze(house, container, false).await {
        // It may have ended, and its cgroup with it; if not, the caller sees that it does not end.
        tracing::debug!(id = %container.id, %error, "thawing a container to end it");
    }
    container.change(|record| {
        if record.state.status == Status::Paused {
            record.state.status = Status::Running;
        }
    });
}

async fn freeze(house: &Arc<House>, container: &Arc<Container>, frozen: bool) -> Result<()> {
    let record = container.record();
    let house = Arc::clone(house);
    blocking(move || {
        let cgroup = house.cgroup(&record.id, &record.host_config.resources.cgroup_parent);
        house.ports.kernel.freeze(&cgroup, frozen)
    })
    .await
}
