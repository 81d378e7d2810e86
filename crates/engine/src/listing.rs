//! `GET /containers/json` and `POST /containers/prune`.

use std::sync::Arc;

use cais_types::api::query::{ContainerListQuery, Filters, RemoveQuery};
use cais_types::api::{
    ContainerPruneResponse, ContainerSummary, Port, SummaryHostConfig, SummaryNetworkSettings,
};
use cais_types::human::human_duration;
use cais_types::{ErrorClass, Result};

use crate::filter::{ContainerFilter, PruneFilter};
use crate::house::{House, blocking};
use crate::links;
use crate::record::Record;
use crate::remove;
use crate::state::Status;

/// Lists containers, newest first.
///
/// # Errors
/// Those of [`ContainerFilter::new`].
pub async fn list(house: &Arc<House>, query: ContainerListQuery) -> Result<Vec<ContainerSummary>> {
    let filter = ContainerFilter::new(house, query.filters)?;
    let all = query.all || query.limit > 0 || filter.wants_stopped();
    let mut records: Vec<Arc<Record>> = house
        .store
        .all()
        .iter()
        .map(|container| container.record())
        .filter(|record| (all || record.state.status.is_running()) && filter.accepts(record))
        .collect();
    records.sort_by(|a, b| b.created.cmp(&a.created));
    if let Ok(limit @ 1..) = usize::try_from(query.limit) {
        records.truncate(limit);
    }
    let linked = links::names(house);
    let mut summaries: Vec<_> = records
        .iter()
        .map(|record| summary(house, record))
        .collect();
    for (one, record) in summaries.iter_mut().zip(&records) {
        one.names
            .extend(linked.get(&record.id).into_iter().flatten().cloned());
    }
    if !query.size {
        return Ok(summaries);
    }
    let house = Arc::clone(house);
    blocking(move || {
        let pairs = records.iter().zip(summaries);
        pairs
            .map(|(record, one)| with_size(&house, record, one))
            .collect()
    })
    .await
}

fn with_size(house: &House, record: &Record, one: ContainerSummary) -> Result<ContainerSummary> {
    let (size_rw, size_root_fs) = house.ports.rootfs.usage(&record.id, &record.image)?;
    Ok(ContainerSummary {
        size_rw: size_rw.cast_signed(),
        size_root_fs: size_root_fs.cast_signed(),
        ..one
    })
}

fn summary(house: &House, record: &Record) -> ContainerSummary {
    // A name that has moved to another image since is no longer this container's.
    let named = house.ports.rootfs.find(&record.config.image) == Some(record.image);
    ContainerSummary {
        id: record.id.to_string(),
        names: vec![record.slash_name()],
        image: if named {
            record.config.image.clone()
        } else {
            record.image.to_string()
        },
        image_id: record.image.to_string(),
        command: command(record),
        created: record
            .created
            .parse::<jiff::Timestamp>()
            .map_or(0, |time| time.as_second()),
        ports: ports(record),
        labels: record.config.labels.clone(),
        state: record.state.status.as_str().to_owned(),
        status: status(record),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings {
            networks: record.shown_endpoints(),
        },
        mounts: record.mount_points(),
        ..ContainerSummary::default()
    }
}

/// Program and arguments; an argument with a space stands in single quotes.
fn command(record: &Record) -> String {
    let mut text = record.path.clone();
    for argument in &record.args {
        text.push(' ');
        if argument.contains(' ') {
            text.push('\'');
            text.push_str(argument);
            text.push('\'');
        } else {
            text.push_str(argument);
        }
    }
    text
}

fn ports(record: &Record) -> Vec<Port> {
    if !record.state.status.is_running() {
        return Vec::new();
    }
    let mut ports = Vec::new();
    let published = record
        .network
        .ports
        .iter()
        .map(|(port, bindings)| (port, bindings.as_slice()));
    let exposed = record.config.exposed_ports.keys();
    let only_exposed = exposed
        .filter(|port| !record.network.ports.contains_key(*port))
        .map(|port| (port, &[][..]));
    for (port, bindings) in published.chain(only_exposed) {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        let private_port = number.parse().unwrap_or(0);
        if bindings.is_empty() {
            ports.push(Port {
                private_port,
                r#type: kind.to_owned(),
                ..Port::default()
            });
        }
        ports.extend(bindings.iter().map(|binding| Port {
            ip: binding.host_ip.clone(),
            private_port,
            public_port: binding.host_port.parse().unwrap_or(0),
            r#type: kind.to_owned(),
        }));
    }
    ports
}

/// `Up 2 hours (healthy)`, `Exited (0) 5 seconds ago`, ...
pub fn status(record: &Record) -> String {
    let state = &record.state;
    let ago = |since: &str| human_duration(crate::time::since(since).as_secs().cast_signed());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            ago(&state.finished_at)
        ),
        Status::Exited => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            ago(&state.finished_at)
        ),
        Status::Paused => format!("Up {} (Paused)", ago(&state.started_at)),
        Status::Running => {
            let up = format!("Up {}", ago(&state.started_at));
            match record.health.as_ref().map(|health| health.status.as_str()) {
                None | Some("" | "none") => up,
                Some("starting") => format!("{up} (health: starting)"),
                Some(health) => format!("{up} ({health})"),
            }
        }
    }
}

/// Removes containers that do not run and pass the filter; answers their ids and the bytes of their layers.
///
/// # Errors
/// Invalid filters. A container that cannot be removed is left out.
pub async fn prune(house: &Arc<House>, filters: Filters) -> Result<ContainerPruneResponse> {
    let filter = PruneFilter::new(filters)?;
    let mut response = ContainerPruneResponse::default();
    for container in house.store.all() {
        let record = container.record();
        if record.state.status.is_running()
            || !filter.accepts(&record.created, &record.config.labels)
        {
            continue;
        }
        let usage = {
            let (house, record) = (Arc::clone(house), Arc::clone(&record));
            blocking(move || house.ports.rootfs.usage(&record.id, &record.image)).await
        };
        match remove::remove(house, &container, RemoveQuery::default()).await {
            Ok(()) => {
                response.space_reclaimed += usage.map_or(0, |(layer, _)| layer);
                response
                    .containers_deleted
                    .get_or_insert_default()
                    .push(record.id.to_string());
            }
            Err(error) if error.class() == ErrorClass::NotFound => {}
            Err(error) => tracing::warn!(container = %record.id, %error, "prune"),
        }
    }
    let reclaimed = response.space_reclaimed.to_string();
    let attributes = [("reclaimed".to_owned(), reclaimed)].into();
    house.events.publish("container", "prune", "", attributes);
    Ok(response)
}
