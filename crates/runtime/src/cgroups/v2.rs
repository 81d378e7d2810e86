//! Limits in the unified hierarchy.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::convert::{cpu_max, cpu_weight, or_max, swap_max};
use super::file::Directory;
use super::hierarchy::Hierarchy;
use super::{CgroupError, block_io, devices};
use crate::spec::{LinuxCpu, LinuxMemory, LinuxResources};

const CONTROLLERS: &str = "cgroup.controllers";

/// Makes a group's directory and the ones above it, with all controllers handed down; `false` when it was there.
pub(super) fn make(root: &Hierarchy, path: &str) -> Result<bool, CgroupError> {
    let directory = Directory::new(root, path);
    let made = directory.make();
    match made {
        Ok(made) if directory.read(CONTROLLERS)? == directory.at("").read(CONTROLLERS)? => {
            return Ok(made);
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(directory.failed(errno)),
    }
    let mut levels = vec![""];
    levels.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    for (index, level) in levels.iter().enumerate() {
        let level_directory = directory.at(level);
        if index > 0 {
            level_directory
                .make()
                .map_err(|errno| level_directory.failed(errno))?;
        }
        hand_down(&level_directory)?;
    }
    let made_now = directory.make().map_err(|errno| directory.failed(errno))?;
    Ok(made == Ok(true) || made_now)
}

/// Enables all controllers for the groups below. One that cannot be enabled is missed only by who asks for its limits.
fn hand_down(directory: &Directory<'_>) -> Result<(), CgroupError> {
    let available = directory.read(CONTROLLERS)?;
    let enabled = directory.read("cgroup.subtree_control")?;
    let missing: Vec<_> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|one| one == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty()
        || directory
            .write("cgroup.subtree_control", &missing.join(" "))
            .is_ok()
    {
        return Ok(());
    }
    for name in missing {
        let _ = directory.write("cgroup.subtree_control", &name);
    }
    Ok(())
}

/// Sets limits. Swappiness and the OOM killer's switch have no counterpart and are left out, as runc does.
pub(super) fn apply(
    directory: &Directory<'_>,
    opened: Option<&OwnedFd>,
    resources: &LinuxResources,
    fresh: bool,
) -> Result<(), CgroupError> {
    if fresh || !resources.devices.is_empty() {
        let own;
        let opened = match opened {
            Some(opened) => opened,
            None => {
                own = directory.open()?;
                &own
            }
        };
        devices::apply_v2(opened, &resources.devices)?;
    }
    if let Some(limits) = &resources.memory {
        memory(directory, limits)?;
    }
    if let Some(limits) = &resources.cpu {
        cpu(directory, limits)?;
    }
    if let Some(pids) = &resources.pids {
        let limit = if pids.limit > 0 { pids.limit } else { -1 };
        directory.write_resource("pids limit", "pids.max", &or_max(limit))?;
    }
    if let Some(limits) = &resources.block_io {
        block_io::write(directory, &block_io::v2(limits))?;
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.max", limit.page_size);
        directory.write_resource("huge page limit", &file, &limit.limit.to_string())?;
    }
    if let Some(network) = &resources.network
        && (network.class_id.is_some_and(|class| class != 0) || !network.priorities.is_empty())
    {
        return Err(unsupported("network class and priorities"));
    }
    for (device, limit) in &resources.rdma {
        let line = block_io::rdma_line(device, limit);
        directory.write_resource("rdma limit", "rdma.max", &line)?;
    }
    for (file, value) in &resources.unified {
        unified(directory, file, value)?;
    }
    Ok(())
}

fn unsupported(resource: &str) -> CgroupError {
    CgroupError::Unsupported {
        resource: resource.to_owned(),
        reason: "cgroup v2 has nothing like it".to_owned(),
    }
}

/// A file named by the user: of this directory only; several lines are several writes.
fn unified(directory: &Directory<'_>, file: &str, value: &str) -> Result<(), CgroupError> {
    if file.is_empty() || file.contains('/') || file == "." || file == ".." {
        return Err(CgroupError::Invalid(format!(
            "unified resource {file:?} must be a file name"
        )));
    }
    for line in value.lines() {
        directory.write_resource(&format!("unified resource {file:?}"), file, line)?;
    }
    Ok(())
}

fn memory(directory: &Directory<'_>, memory: &LinuxMemory) -> Result<(), CgroupError> {
    if memory.kernel_tcp.is_some_and(|limit| limit != 0) {
        return Err(unsupported("kernel TCP memory limit"));
    }
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let (Some(true), Some(limit @ 1..)) = (memory.check_before_update, limit) {
        let usage = directory
            .read("memory.current")?
            .trim()
            .parse::<i64>()
            .unwrap_or(0);
        if usage > limit {
            return Err(CgroupError::Invalid(format!(
                "memory limit {limit} is below usage {usage}"
            )));
        }
    }
    if let Some(swap) = swap_max(memory.swap, memory.limit)? {
        // Without swap accounting there is no file, and nothing that had to be unlimited.
        if swap >= 0 || directory.read_optional("memory.swap.max")?.is_some() {
            directory.write_resource("swap limit", "memory.swap.max", &or_max(swap))?;
        }
    }
    if let Some(limit) = limit {
        directory.write_resource("memory limit", "memory.max", &or_max(limit))?;
    }
    if let Some(reservation) = memory.reservation.filter(|limit| *limit != 0) {
        directory.write_resource("memory reservation", "memory.low", &or_max(reservation))?;
    }
    Ok(())
}

fn cpu(directory: &Directory<'_>, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    let realtime = cpu.realtime_period.is_some_and(|period| period != 0)
        || cpu.realtime_runtime.is_some_and(|runtime| runtime != 0);
    if realtime {
        return Err(unsupported("realtime period and runtime"));
    }
    if let Some(idle) = cpu.idle {
        directory.write_resource("cpu idle", "cpu.idle", &idle.to_string())?;
    }
    // An idle group has no weight.
    if let Some(shares @ 1..) = cpu.shares
        && cpu.idle != Some(1)
    {
        directory.write_resource("cpu shares", "cpu.weight", &cpu_weight(shares).to_string())?;
    }
    if let Some(line) = cpu_max(cpu.quota, cpu.period) {
        directory.write_resource("cpu quota", "cpu.max", &line)?;
    }
    if let Some(burst) = cpu.burst {
        directory.write_resource("cpu burst", "cpu.max.burst", &burst.to_string())?;
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            directory.write_resource(file, file, list)?;
        }
    }
    Ok(())
}
