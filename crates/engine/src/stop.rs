//! `stop`, `kill` and `restart`. None of them holds the container's lock while it waits for the end: the end needs it.

use std::sync::Arc;
use std::time::Duration;

use cais_monitor::protocol::Request;
use cais_types::api::query::StopQuery;
use cais_types::{Error, ErrorClass, Result};

use crate::container::Container;
use crate::exit::AfterExit;
use crate::house::House;
use crate::record::Record;
use crate::state::Status;
use crate::{Changed, pause, start};
use cais_types::signals;

/// Seconds between the stop signal and SIGKILL unless somebody says otherwise.
const STOP_TIMEOUT: i64 = 10;
/// How long the kernel may take to end a killed container.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// `POST /containers/{id}/stop`.
///
/// # Errors
/// Wrong signal; `cannot stop container: NAME: ...`.
pub async fn stop(
    house: &Arc<House>,
    container: &Arc<Container>,
    query: &StopQuery,
) -> Result<Changed> {
    if !container.record().state.status.is_running() {
        return Ok(Changed::Unchanged);
    }
    if end(house, container, query, AfterExit::StayDown).await? {
        house.events.container(&container.record(), "stop", &[]);
    }
    Ok(Changed::Changed)
}

/// `POST /containers/{id}/restart`.
///
/// # Errors
/// Those of stopping and starting.
pub async fn restart(
    house: &Arc<House>,
    container: &Arc<Container>,
    query: &StopQuery,
) -> Result<()> {
    if container.record().state.status.is_running()
        && end(house, container, query, AfterExit::Keep).await?
    {
        house.events.container(&container.record(), "stop", &[]);
    }
    start::start(house, container).await?;
    house.events.container(&container.record(), "restart", &[]);
    Ok(())
}

/// Ends a container: stop signal, patience, SIGKILL. Answers whether it was running. One that ends by itself meanwhile, and
/// may be about to start again, is looked at once more.
async fn end(
    house: &Arc<House>,
    container: &Arc<Container>,
    query: &StopQuery,
    after: AfterExit,
) -> Result<bool> {
    let record = container.record();
    let signal = match query.signal.as_deref().filter(|signal| !signal.is_empty()) {
        Some(signal) => signals::parse(signal)?,
        None => stop_signal(&record)?,
    };
    let timeout = query
        .timeout
        .or(record.config.stop_timeout)
        .unwrap_or(STOP_TIMEOUT);
    let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
    let mut ended = false;
    loop {
        // Counted before anything is looked at, so that no end is missed.
        let exits = container.life.borrow().exits;
        if give_up_restart(house, container).await? {
            return Ok(true);
        }
        if !container.record().state.status.has_process() {
            return Ok(ended);
        }
        container.session().after_exit = after;
        mark_stopped(house, container)?;
        let paused = pause::is_paused(container);
        if !send(house, container, signal).await? {
            ended = wait_for_exit(container, exits, None).await;
            continue;
        }
        if paused {
            pause::thaw_to_die(house, container).await;
        }
        if !wait_for_exit(container, exits, patience).await {
            kill_and_wait(house, container, exits).await?;
        }
        return Ok(true);
    }
}

/// Kills a container and waits until it has ended.
///
/// # Errors
/// `tried to kill container, but did not receive an exit event`.
pub async fn kill_and_wait(
    house: &Arc<House>,
    container: &Arc<Container>,
    exits: u64,
) -> Result<()> {
    let paused = pause::is_paused(container);
    if send(house, container, signals::KILL).await? && paused {
        pause::thaw_to_die(house, container).await;
    }
    if wait_for_exit(container, exits, Some(KILL_PATIENCE)).await {
        return Ok(());
    }
    Err(Error::internal(format!(
        "cannot stop container: {}: tried to kill container, but did not receive an exit event",
        container.record().name
    )))
}

/// A container that waits for its next automatic start is simply not started. Answers whether it was so.
///
/// # Errors
/// Those of the database.
pub async fn give_up_restart(house: &Arc<House>, container: &Arc<Container>) -> Result<bool> {
    if container.record().state.status != Status::Restarting {
        return Ok(false);
    }
    let _operation = container.operation.lock().await;
    container.session().cancel_restart();
    if container.record().state.status != Status::Restarting {
        return Ok(false);
    }
    house.store.change(container, |record| {
        record.state.status = Status::Exited;
        record.state.stopped_by_user = true;
    })?;
    container.life.send_modify(|life| {
        life.running = false;
        life.exits += 1;
    });
    Ok(true)
}

fn stop_signal(record: &Record) -> Result<i32> {
    match record.config.stop_signal.as_str() {
        "" => Ok(signals::TERM),
        signal => signals::parse(signal),
    }
}

/// Remembers the user's wish for `unless-stopped`; other policies never look at it.
fn mark_stopped(house: &House, container: &Container) -> Result<()> {
    let mark = |record: &mut Record| record.state.stopped_by_user = true;
    if container.record().host_config.restart_policy.name == "unless-stopped" {
        house.store.change(container, mark)?;
    } else {
        container.change(mark);
    }
    Ok(())
}

/// Tells of a signal and sends it, in this order, so that `kill` never comes after `die`; false when the container has
/// ended already.
async fn send(house: &House, container: &Container, signal: i32) -> Result<bool> {
    let Ok(monitor) = container.monitor() else {
        return Ok(false);
    };
    let extra = [("signal", signal.to_string())];
    house.events.container(&container.record(), "kill", &extra);
    match monitor.request(Request::Kill { signal }, None).await {
        Ok(_) => Ok(true),
        Err(error) if error.class() == ErrorClass::Conflict => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the container has ended once more than `exits` times; without a limit when `patience` is absent.
async fn wait_for_exit(container: &Container, exits: u64, patience: Option<Duration>) -> bool {
    let mut life = container.life.subscribe();
    let ended = life.wait_for(|life| life.exits > exits || life.removed);
    match patience {
        None => ended.await.is_ok(),
        Some(patience) => tokio::time::timeout(patience, ended).await.is_ok(),
    }
}

/// `POST /containers/{id}/kill`.
///
/// # Errors
/// `container ID is not running`, wrong signal.
pub async fn kill(
    house: &Arc<House>,
    container: &Arc<Container>,
    signal: Option<&str>,
) -> Result<()> {
    let number = match signal.filter(|signal| !signal.is_empty()) {
        None => signals::KILL,
        Some(signal) => signals::parse(signal)?,
    };
    // Counted before anything is looked at, so that no end is missed.
    let exits = container.life.borrow().exits;
    let record = container.record();
    let not_running = || Error::conflict(format!("container {} is not running", container.id));
    if number == signals::KILL && give_up_restart(house, container).await? {
        return Ok(());
    }
    if !record.state.status.has_process() {
        return Err(not_running());
    }
    // A signal that is not meant to stop it leaves the restart policy alone.
    let stops = number == signals::KILL
        || record.config.stop_signal.is_empty()
        || stop_signal(&record)? == number;
    if stops {
        container.session().after_exit = AfterExit::StayDown;
    }
    mark_stopped(house, container)?;
    if number == signals::KILL {
        return kill_and_wait(house, container, exits).await;
    }
    let paused = stops && pause::is_paused(container);
    if !send(house, container, number).await? {
        return Err(not_running());
    }
    if paused {
        pause::thaw_to_die(house, container).await;
    }
    Ok(())
}
