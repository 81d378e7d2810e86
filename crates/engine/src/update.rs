//! `POST /containers/{id}/update`: limits and restart policy of an existing container.

use std::sync::Arc;

use cais_types::api::{ContainerUpdateRequest, ContainerUpdateResponse, HostConfig, Resources};
use cais_types::{Error, Result};

use crate::container::Container;
use crate::create::validate::check_resources;
use crate::house::{House, blocking};
use crate::publish::{self, Change};
use crate::restart::Policy;
use crate::spec;
use crate::state::Status;

/// Changes a container, the running one at once.
///
/// # Errors
/// Wrong limits, in Docker's words; what the kernel refuses.
pub async fn update(
    house: &Arc<House>,
    container: &Arc<Container>,
    request: ContainerUpdateRequest,
) -> Result<ContainerUpdateResponse> {
    let _operation = container.operation.lock().await;
    let before = container.record();
    if matches!(before.state.status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!(
            "cannot update container {}: container is marked for removal and cannot be \"update\"",
            container.id
        )));
    }
    let failed = |error: Error| {
        Error::new(
            error.class(),
            format!("Cannot update container {}: {error}", container.id),
        )
    };
    let mut host = before.host_config.clone();
    merge(&mut host, &request).map_err(failed)?;
    check_resources(&host.resources).map_err(failed)?;
    if before.state.status.has_process() {
        let limits = spec::limits(&host.resources).map_err(failed)?;
        let cgroup = house.cgroup(&container.id, &host.resources.cgroup_parent);
        let place = Arc::clone(house);
        blocking(move || place.ports.kernel.limit(&cgroup, &limits))
            .await
            .map_err(failed)?;
    }
    let record = house
        .store
        .change(container, |record| record.host_config = host)?;
    let ports = Change::new(
        request.publish_add.as_ref(),
        request.publish_remove.as_ref(),
    );
    if !ports.is_empty() {
        publish::change(house, container, &ports)
            .await
            .map_err(failed)?;
    }
    house.events.container(&record, "update", &[]);
    Ok(ContainerUpdateResponse { warnings: None })
}

fn merge(host: &mut HostConfig, request: &ContainerUpdateRequest) -> Result<()> {
    let wish = &request.restart_policy;
    if !wish.name.is_empty() {
        let policy = Policy::parse(&wish.name, wish.maximum_retry_count)?;
        if host.auto_remove && policy != Policy::No {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        host.restart_policy = wish.clone();
    }
    let (mine, new) = (&mut host.resources, &request.resources);
    if new.nano_cpus > 0 && (mine.cpu_period > 0 || mine.cpu_quota > 0) {
        return Err(Error::conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set",
        ));
    }
    if (new.cpu_quota > 0 || new.cpu_period > 0) && mine.nano_cpus > 0 {
        return Err(Error::conflict(
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    merge_numbers(mine, new);
    if new.memory > 0
        && new.memory_swap == 0
        && mine.memory_swap > 0
        && mine.memory_swap < new.memory
    {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(())
}

/// Zero, empty and absent leave what is there.
fn merge_numbers(mine: &mut Resources, new: &Resources) {
    for (value, wanted) in [
        (&mut mine.cpu_shares, new.cpu_shares),
        (&mut mine.memory, new.memory),
        (&mut mine.memory_swap, new.memory_swap),
        (&mut mine.memory_reservation, new.memory_reservation),
        (&mut mine.nano_cpus, new.nano_cpus),
        (&mut mine.cpu_period, new.cpu_period),
        (&mut mine.cpu_quota, new.cpu_quota),
        (&mut mine.cpu_realtime_period, new.cpu_realtime_period),
        (&mut mine.cpu_realtime_runtime, new.cpu_realtime_runtime),
    ] {
        if wanted != 0 {
            *value = wanted;
        }
    }
    if new.blkio_weight != 0 {
        mine.blkio_weight = new.blkio_weight;
    }
    if new.pids_limit.is_some() {
        mine.pids_limit = new.pids_limit;
    }
    for (value, wanted) in [
        (&mut mine.cpuset_cpus, &new.cpuset_cpus),
        (&mut mine.cpuset_mems, &new.cpuset_mems),
    ] {
        if !wanted.is_empty() {
            value.clone_from(wanted);
        }
    }
}
