//! The end of a container: one task per running container listens to its monitor; when init has ended the record is
//! written, the network released, `die` told, waiters woken; then the container is removed, started again, or left.

use std::sync::Arc;

use cais_monitor::exit as exit_record;
use cais_monitor::protocol::{Exit, Message, ProcessIdentity};
use cais_types::Result;

use crate::container::Container;
use crate::house::{House, blocking};
use crate::monitor::{MonitorClient, MonitorReader};
use crate::record::{NetworkMode, NetworkState, Record};
use crate::restart::Policy;
use crate::state::Status;
use crate::{exec, network, remove, shm, start, time};

/// Exit code of a container of which nobody knows how it ended.
const LOST: i32 = 137;

/// What shall happen when the container has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterExit {
    /// As its restart policy and `--rm` say.
    #[default]
    Policy,
    /// Not started again, whatever the policy says: a user stopped it.
    StayDown,
    /// Neither started again nor removed: `restart` and `rm -f` go on with it.
    Keep,
}

/// Listens to a monitor until it ends.
pub fn supervise(
    house: &Arc<House>,
    container: &Arc<Container>,
    client: Arc<MonitorClient>,
    mut reader: MonitorReader,
) {
    let (house, container) = (Arc::clone(house), Arc::clone(container));
    tokio::spawn(async move {
        let exit = loop {
            match reader.next().await {
                Some(Message::Exited(exit)) => break Some(exit),
                Some(Message::ExecExited { exec_id, code }) => exec::ended(&house, &exec_id, code),
                Some(Message::Detached { exec_id }) => detached(&house, &container, exec_id),
                Some(Message::Reply { .. }) => {}
                None => break None,
            }
        };
        drop(reader);
        ended(&house, &container, &client, exit).await;
    });
}

fn detached(house: &House, container: &Container, exec_id: Option<String>) {
    let record = container.record();
    match exec_id {
        None => house.events.container(&record, "detach", &[]),
        Some(id) => house
            .events
            .container(&record, "exec_detach", &[("execID", id)]),
    }
}

async fn ended(
    house: &Arc<House>,
    container: &Arc<Container>,
    client: &Arc<MonitorClient>,
    exit: Option<Exit>,
) {
    let _operation = container.operation.lock().await;
    let after = {
        let mut session = container.session();
        let current = session
            .monitor
            .as_ref()
            .is_some_and(|have| Arc::ptr_eq(have, client));
        if !current {
            // A start that failed; it has been undone already.
            return;
        }
        session.monitor = None;
        session.stop_watching();
        std::mem::take(&mut session.after_exit)
    };
    let (place, id) = (Arc::clone(house), container.id);
    let reaped = tokio::task::spawn_blocking(move || place.ports.launcher.ended(&id));
    let exit = match exit {
        Some(exit) => exit,
        None => recover(house, container).await,
    };
    settle(house, container, exit, after).await;
    // Before the next start, which would be taken for this one.
    if let Err(error) = reaped.await {
        tracing::error!(%id, %error, "reaping a monitor");
    }
}

/// The exit of a container whose monitor is gone: from its record on disk, or, without one, after making sure that
/// nothing of it runs.
pub async fn recover(house: &Arc<House>, container: &Arc<Container>) -> Exit {
    let record = container.record();
    let house = Arc::clone(house);
    let recovered = blocking(move || {
        let left = exit_record::read(&house.directory(&record.id))
            .ok()
            .flatten();
        let state = &record.state;
        let init = (state.pid > 0 && left.is_none()).then_some(ProcessIdentity {
            pid: state.pid,
            start_time: state.start_time,
        });
        let cgroup = house.cgroup(&record.id, &record.host_config.resources.cgroup_parent);
        if let Err(error) = house.ports.kernel.clear(&cgroup, init) {
            tracing::warn!(id = %record.id, %error, "ending what is left of a container");
        }
        shm::unmount(&house, &record);
        // The socket of a dead monitor; it may be gone.
        let _ = std::fs::remove_file(house.socket(&record.id));
        Ok(left)
    });
    let left = recovered.await.ok().flatten();
    left.unwrap_or_else(|| Exit {
        code: LOST,
        oom_killed: false,
        finished_at: time::now(),
        execs: Vec::new(),
    })
}

/// Records an end and does what follows from it; the caller holds the operation lock.
pub async fn settle(house: &Arc<House>, container: &Arc<Container>, exit: Exit, after: AfterExit) {
    let before = container.record();
    let restarts = after == AfterExit::Policy && restarts(&before, exit.code);
    let removes = before.auto_remove() && after != AfterExit::Keep && !restarts;
    let change = |record: &mut Record| {
        let finished_at = exit.finished_at.clone();
        record
            .state
            .ended(exit.code, exit.oom_killed, finished_at, restarts);
        record.network = NetworkState::default();
    };
    // A container that is about to be removed needs no last word on disk: its exit record is there.
    let record = if removes {
        container.change(change)
    } else {
        match house.store.change(container, change) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(id = %container.id, %error, "cannot write the record");
                container.record()
            }
        }
    };
    for (exec_id, code) in &exit.execs {
        exec::ended(house, exec_id, *code);
    }
    exec::container_ended(house, &container.id);
    if let Err(error) = release(house, &before).await {
        tracing::warn!(id = %container.id, %error, "releasing the network");
    }
    announce(house, &record, &exit);
    network::announce(house, "disconnect", &before);
    container.life.send_modify(|life| {
        life.running = restarts;
        life.exits += 1;
        life.code = exit.code;
    });
    if removes {
        if let Err(error) = remove::discard(house, container, true).await {
            tracing::error!(id = %container.id, %error, "removing an ended container");
            container
                .life
                .send_modify(|life| life.removal_error = Some(error.to_string()));
        }
    } else if restarts {
        schedule(house, container, &record);
    }
}

fn restarts(record: &Record, code: i32) -> bool {
    let wish = &record.host_config.restart_policy;
    Policy::parse(&wish.name, wish.maximum_retry_count).is_ok_and(|policy| {
        policy.restarts(code, record.state.stopped_by_user, record.restart_count)
    })
}

/// Gives back what only a running container holds.
async fn release(house: &Arc<House>, record: &Arc<Record>) -> Result<()> {
    let own = matches!(
        record.network_mode(),
        NetworkMode::Networks | NetworkMode::None
    );
    let shared_memory = record.host_config.ipc_mode == "shareable";
    if !own && !shared_memory {
        return Ok(());
    }
    let (house, record) = (Arc::clone(house), Arc::clone(record));
    blocking(move || {
        shm::unmount(&house, &record);
        if own {
            house.ports.sandboxes.close(&record.id)
        } else {
            Ok(())
        }
    })
    .await
}

fn announce(house: &House, record: &Record, exit: &Exit) {
    if exit.oom_killed {
        house.events.container(record, "oom", &[]);
    }
    let ran = time::seconds_between(&record.state.started_at, &record.state.finished_at);
    let extra = [
        ("execDuration", ran.to_string()),
        ("exitCode", exit.code.to_string()),
    ];
    house.events.container(record, "die", &extra);
}

/// Starts the container again after its delay.
pub fn schedule(house: &Arc<House>, container: &Arc<Container>, record: &Record) {
    let ran = time::since(&record.state.started_at);
    let delay = container.session().backoff.next(ran);
    let task = tokio::spawn(start_again(Arc::clone(house), Arc::clone(container), delay));
    container.session().restart = Some(task.abort_handle());
}

/// Boxed, because starting may schedule the next start.
fn start_again(
    house: Arc<House>,
    container: Arc<Container>,
    delay: std::time::Duration,
) -> futures_core::future::BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::time::sleep(delay).await;
        let _operation = container.operation.lock().await;
        if container.record().state.status != Status::Restarting {
            return;
        }
        // From here on it must not be aborted half way.
        container.session().restart = None;
        container.change(|record| record.restart_count += 1);
        if let Err(error) = start::run(&house, &container).await {
            tracing::warn!(id = %container.id, %error, "starting a container again");
        }
    })
}
