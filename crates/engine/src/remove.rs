//! `DELETE /containers/{id}`, and the removal of `--rm` containers.

use std::sync::Arc;

use cais_state::Durability;
use cais_types::api::query::RemoveQuery;
use cais_types::{Error, Result};

use crate::container::Container;
use crate::exit::AfterExit;
use crate::house::{House, blocking};
use crate::mounts::MountKind;
use crate::state::Status;
use crate::stop;

/// Removes a container.
///
/// # Errors
/// `cannot remove container "/x": container is running: stop the container before removing or force remove`.
pub async fn remove(
    house: &Arc<House>,
    container: &Arc<Container>,
    query: RemoveQuery,
) -> Result<()> {
    loop {
        // Counted before the state is looked at, so that no end is missed.
        let exits = container.life.borrow().exits;
        let record = container.record();
        let status = record.state.status;
        if !status.is_running() {
            break;
        }
        if !query.force {
            let way = if status == Status::Paused {
                "and must be unpaused first"
            } else {
                "stop the container before removing or force remove"
            };
            let joint = if status == Status::Paused { " " } else { ": " };
            return Err(Error::conflict(format!(
                "cannot remove container \"/{}\": container is {}{joint}{way}",
                record.name,
                status.as_str()
            )));
        }
        if !stop::give_up_restart(house, container).await? {
            container.session().after_exit = AfterExit::Keep;
            stop::kill_and_wait(house, container, exits).await?;
        }
    }
    let _operation = container.operation.lock().await;
    if house.store.get(&container.id).is_none() {
        // Somebody else has removed it meanwhile.
        return if query.force {
            Ok(())
        } else {
            Err(Error::not_found(format!(
                "No such container: {}",
                container.id
            )))
        };
    }
    if container.record().state.status.is_running() {
        return Err(Error::conflict(format!(
            "cannot remove container \"/{}\": container was started again",
            container.record().name
        )));
    }
    discard(house, container, query.volumes).await
}

/// Removes a container that does not run; the caller holds its operation lock. The record goes first; files follow in the
/// background, and after a crash the next start of the daemon finds them without an owner.
///
/// # Errors
/// Those of the volumes and of the database: the container is then still there.
pub async fn discard(
    house: &Arc<House>,
    container: &Arc<Container>,
    anonymous_volumes: bool,
) -> Result<()> {
    let before = container.record().state.status;
    let record = container.change(|record| record.state.status = Status::Removing);
    {
        let mut session = container.session();
        session.waiting.clear();
        session.stop_watching();
        session.cancel_restart();
    }
    let durability = record.durability();
    let has_volumes = record
        .mounts
        .iter()
        .any(|mount| mount.kind == MountKind::Volume);
    let result = if has_volumes || durability == Durability::Power {
        let (house, container) = (Arc::clone(house), Arc::clone(container));
        blocking(move || {
            forget(
                &house,
                &container,
                has_volumes,
                anonymous_volumes,
                durability,
            )
        })
        .await
    } else {
        forget(house, container, false, false, durability)
    };
    if let Err(error) = result {
        container.change(|record| record.state.status = before);
        return Err(error);
    }
    house.execs.forget_container(&container.id);
    let (place, id) = (Arc::clone(house), container.id);
    // Nobody waits for it: what fails here is tried again at the next start of the daemon.
    drop(tokio::task::spawn_blocking(move || {
        delete_files(&place, &id)
    }));
    house.events.container(&record, "destroy", &[]);
    container.life.send_modify(|life| {
        life.running = false;
        life.removed = true;
    });
    Ok(())
}

fn forget(
    house: &House,
    container: &Container,
    has_volumes: bool,
    anonymous: bool,
    durability: Durability,
) -> Result<()> {
    if has_volumes {
        house.ports.volumes.release(&container.id, anonymous)?;
    }
    house.store.remove(container, durability)
}

/// Deletes a container's layer and directory.
pub fn delete_files(house: &House, id: &cais_types::ContainerId) {
    if let Err(error) = house.ports.rootfs.remove(id) {
        tracing::warn!(%id, %error, "removing a container's layer");
    }
    match std::fs::remove_dir_all(house.directory(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%id, %error, "removing a container's directory");
        }
        _ => {}
    }
}
