//! The start of the daemon: the records say what should be, monitors and the kernel say what is. Running containers are
//! taken over, ended ones settled, and what nobody owns is removed.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use cais_monitor::exit as exit_record;
use cais_monitor::protocol::{Answer, Request, Status as MonitorStatus};
use cais_types::api::EndpointSettings;
use cais_types::{ContainerId, Result};

use crate::container::Container;
use crate::exit::{self, AfterExit};
use crate::house::{House, blocking};
use crate::monitor::{MonitorClient, MonitorReader, PendingReply};
use crate::ports::LiveSandbox;
use crate::record::{NetworkMode, Record};
use crate::restart::Policy;
use crate::state::Status;
use crate::{connect, exec, health, network, remove, start};

/// How long a monitor may take to say how its container is.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// Brings records and facts together. The API may answer readers meanwhile.
///
/// # Errors
/// Those of cleaning up, in the rooms below.
pub async fn reconcile(house: &Arc<House>) -> Result<()> {
    let mut adopting = tokio::task::JoinSet::new();
    for container in house.store.all() {
        let house = Arc::clone(house);
        adopting.spawn(async move { adopt_or_settle(&house, &container).await });
    }
    while let Some(result) = adopting.join_next().await {
        if let Err(error) = result {
            tracing::error!(%error, "taking over a container");
        }
    }
    clean(house).await?;
    start_at_boot(house).await;
    Ok(())
}

/// Whatever the record says, a monitor that listens is the truth.
async fn adopt_or_settle(house: &Arc<House>, container: &Arc<Container>) {
    let _operation = container.operation.lock().await;
    if let Some((client, reader, status)) = reach(house, container).await {
        take_over(house, container, client, reader, &status);
        return;
    }
    let record = container.record();
    match record.state.status {
        Status::Running | Status::Paused => {
            let exit = exit::recover(house, container).await;
            exit::settle(house, container, exit, AfterExit::Policy).await;
        }
        Status::Restarting => exit::schedule(house, container, &record),
        Status::Removing => {
            if let Err(error) = remove::discard(house, container, false).await {
                tracing::warn!(id = %container.id, %error, "going on with a removal");
            }
        }
        // A container that should vanish at its end does so now.
        Status::Exited | Status::Dead if record.auto_remove() => {
            if let Err(error) = remove::discard(house, container, true).await {
                tracing::warn!(id = %container.id, %error, "removing an ended container");
            }
        }
        Status::Created | Status::Exited | Status::Dead => settle_start(house, container).await,
    }
}

/// The daemon may have died between a start and its record: then the monitor's record tells of a run, or at least
/// something of the run may be left in the kernel.
async fn settle_start(house: &Arc<House>, container: &Arc<Container>) {
    let known = container.record().state.finished_at.clone();
    let last = exit_record::read(&house.directory(&container.id))
        .ok()
        .flatten();
    if last.as_ref().is_some_and(|exit| exit.finished_at == known) {
        return;
    }
    let exit = exit::recover(house, container).await;
    if last.is_some() {
        exit::settle(house, container, exit, AfterExit::Policy).await;
    }
}

/// The monitor that listens for a container, and what it says of it; `None` when it has started nothing. One that does not
/// answer in time holds nobody up: what the record says is believed until it does.
async fn reach(
    house: &House,
    container: &Container,
) -> Option<(Arc<MonitorClient>, MonitorReader, MonitorStatus)> {
    let path = house.socket(&container.id);
    let (client, mut reader) = MonitorClient::connect(&path).await.ok()?;
    let asked = client.post(Request::Status, None).await.ok()?;
    match tokio::time::timeout(STATUS_PATIENCE, status(asked, &mut reader)).await {
        Ok(status) => status.map(|status| (client, reader, status)),
        Err(_) if container.record().state.status.has_process() => {
            tracing::warn!(id = %container.id, "the container's monitor does not answer");
            Some((client, reader, MonitorStatus::default()))
        }
        Err(_) => None,
    }
}

/// Nobody listens yet, so the answer is read here; news before it are in the status as well.
async fn status(asked: PendingReply, reader: &mut MonitorReader) -> Option<MonitorStatus> {
    let mut answer = std::pin::pin!(asked.wait());
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer.ok()?,
            news = reader.next() => {
                news?;
            }
        }
    };
    match answer {
        Answer::Status(status) if status.init.is_some() => Some(status),
        _ => None,
    }
}

fn take_over(
    house: &Arc<House>,
    container: &Arc<Container>,
    client: Arc<MonitorClient>,
    reader: MonitorReader,
    status: &MonitorStatus,
) {
    container.session().monitor = Some(Arc::clone(&client));
    exec::adopt(house, &container.id, status);
    let record = container.record();
    if let Some(init) = status.init
        && !record.state.status.has_process()
    {
        // The daemon died between the start and its record.
        let started = house.store.change(container, |record| {
            record
                .state
                .started(init.pid, init.start_time, crate::time::now());
            record.health = health::initial(&record.config);
        });
        if let Err(error) = started {
            tracing::error!(id = %container.id, %error, "cannot write the record");
        }
    }
    container.life.send_modify(|life| life.running = true);
    exit::supervise(house, container, client, reader);
    if container.record().state.status == Status::Running {
        health::watch(house, container);
    }
}

/// Removes what belongs to no container.
async fn clean(house: &Arc<House>) -> Result<()> {
    let house = Arc::clone(house);
    blocking(move || {
        let all = house.store.all();
        let known: Vec<ContainerId> = all.iter().map(|container| container.id).collect();
        let running: Vec<ContainerId> = all
            .iter()
            .filter(|container| container.record().state.status.has_process())
            .map(|container| container.id)
            .collect();
        remove_strangers(&house, &known);
        house.ports.sandboxes.retain(&running)?;
        compare_networks(&house, &all);
        house.ports.rootfs.retain(&known)
    })
    .await
}

/// A daemon that died while a container changed networks left an endpoint that nobody was told of, or one without an
/// interface; one that died between a start and its record left a record without addresses. Ports follow the wishes.
fn compare_networks(house: &House, all: &[Arc<Container>]) {
    for container in all {
        let record = container.record();
        if !record.state.status.has_process() || record.network_mode() != NetworkMode::Networks {
            continue;
        }
        if let Err(error) = compare_network(house, container, &record) {
            tracing::warn!(id = %container.id, %error, "comparing networks with their record");
        }
    }
}

fn compare_network(house: &House, container: &Container, record: &Record) -> Result<()> {
    let sandboxes = &house.ports.sandboxes;
    let known = &record.network.endpoints;
    let netns = connect::namespace(record)?;
    let live = LiveSandbox {
        container: &container.id,
        name: &record.name,
        netns: netns.as_fd(),
    };
    let mut kept = sandboxes.compare(&live, known)?;
    match sandboxes.republish(&container.id, &network::ports(record), &[]) {
        Ok(ports) => kept.ports = ports,
        Err(error) => tracing::warn!(id = %container.id, %error, "publishing what is wanted"),
    }
    // The sockets that answer names are the daemon's and ended with the last one.
    sandboxes.adopt(&container.id, &record.name, netns.as_fd())?;
    let mut gone = kept.gone;
    for (name, settings) in known {
        if !kept.endpoints.contains_key(name) {
            gone.insert(name.clone(), settings.clone());
        }
    }
    let same = kept.endpoints.keys().eq(known.keys()) && kept.ports == record.network.ports;
    if same && gone.is_empty() {
        return Ok(());
    }
    let after = house.store.change(container, |record| {
        let known = &record.network.endpoints;
        let lost = |name: &String| known.contains_key(name) && gone.contains_key(name);
        record.endpoints.retain(|name, _| !lost(name));
        record.network.endpoints = kept.endpoints;
        record.network.ports = kept.ports;
    })?;
    let mut before = (*after).clone();
    let names = gone
        .keys()
        .map(|name| (name.clone(), EndpointSettings::default()));
    before.endpoints.extend(names);
    before.network.endpoints.extend(gone);
    connect::write_files(house, (&before, &after));
    Ok(())
}

fn remove_strangers(house: &House, known: &[ContainerId]) {
    let ids: HashSet<String> = known.iter().map(ToString::to_string).collect();
    let directory = house.config.data_root.join("containers");
    for entry in std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(id) = name.parse::<ContainerId>() else {
            continue;
        };
        if ids.contains(&name) {
            continue;
        }
        // A container whose record is gone, and perhaps still something of it in the kernel.
        let cgroup = house.cgroup(&id, "");
        if let Err(error) = house.ports.kernel.clear(&cgroup, None) {
            tracing::warn!(%id, %error, "clearing a cgroup that nobody owns");
        }
        let shared_memory = house.shm(&id);
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        while rustix::mount::unmount(&shared_memory, flags).is_ok() {}
        let _ = std::fs::remove_file(house.socket(&id));
        remove::delete_files(house, &id);
    }
}

/// Starts containers whose policy wants them up, as Docker does when its daemon starts; those that join namespaces of
/// others come second.
async fn start_at_boot(house: &Arc<House>) {
    let wanted = house
        .store
        .all()
        .into_iter()
        .filter(|container| is_wanted(&container.record()));
    let (joining, alone): (Vec<_>, Vec<_>) =
        wanted.partition(|container| joins_another(&container.record()));
    for group in [alone, joining] {
        let mut starting = tokio::task::JoinSet::new();
        for container in group {
            let house = Arc::clone(house);
            starting.spawn(async move {
                if let Err(error) = start::start(&house, &container).await {
                    tracing::warn!(id = %container.id, %error, "starting a container at boot");
                }
            });
        }
        while starting.join_next().await.is_some() {}
    }
}

fn is_wanted(record: &Record) -> bool {
    let wish = &record.host_config.restart_policy;
    let state = &record.state;
    state.status == Status::Exited
        && state.started_at != crate::state::NEVER
        && Policy::parse(&wish.name, wish.maximum_retry_count).is_ok_and(|policy| {
            policy.restarts(state.exit_code, state.stopped_by_user, record.restart_count)
        })
}

fn joins_another(record: &Record) -> bool {
    let host = &record.host_config;
    [&host.network_mode, &host.pid_mode, &host.ipc_mode]
        .iter()
        .any(|mode| mode.starts_with("container:"))
}
