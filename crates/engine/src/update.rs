//! `POST /containers/{id}/update`: limits and restart policy of an existing container.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::api::{
    ContainerUpdateRequest, ContainerUpdateResponse, Empty, HostConfig, PortBinding, Resources,
};
use cais_types::{Error, Result};

use crate::container::Container;
use crate::create::validate::check_resources;
use crate::house::{House, blocking};
use crate::publish::Change;
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
    let ports = Change::new(
        request.publish_add.as_ref(),
        request.publish_remove.as_ref(),
    );
    let published = publish(house, container, &ports, &mut host)
        .await
        .map_err(failed)?;
    let record = house.store.change(container, |record| {
        record.host_config = host;
        if let Some((exposed, published)) = published {
            record.config.exposed_ports = exposed;
            record.network.ports = published;
        }
    })?;
    house.events.container(&record, "update", &[]);
    Ok(ContainerUpdateResponse { warnings: None })
}

type Exposed = BTreeMap<String, Empty>;
type Published = BTreeMap<String, Vec<PortBinding>>;

/// Changes what is published; answers what the record has to say of it.
async fn publish(
    house: &Arc<House>,
    container: &Container,
    change: &Change,
    host: &mut HostConfig,
) -> Result<Option<(Exposed, Published)>> {
    if change.is_empty() {
        return Ok(None);
    }
    let record = container.record();
    let (wishes, exposed) = change.apply(&record)?;
    host.port_bindings = wishes.port_bindings;
    if !record.state.status.has_process() {
        return Ok(Some((exposed, Published::new())));
    }
    let (house, id) = (Arc::clone(house), container.id);
    let (add, remove) = (change.add.clone(), change.remove.clone());
    let published = blocking(move || house.ports.sandboxes.republish(&id, &add, &remove)).await?;
    Ok(Some((exposed, published)))
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
