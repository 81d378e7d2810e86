//! Limits in v1 hierarchies: one write per limit that is asked for, no reads before.

use std::io;

use rustix::io::Errno;

use super::file::Directory;
use super::hierarchy::{Controllers, Hierarchy};
use super::{Cgroup, CgroupError, block_io, devices};
use crate::spec::{LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};

/// Makes a group's directory and the ones above it; `false` when it was there.
pub(super) fn make(hierarchy: &Hierarchy, path: &str) -> Result<bool, CgroupError> {
    let directory = Directory::new(hierarchy, path);
    match directory.make() {
        Ok(made) => return Ok(made),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(directory.failed(errno)),
    }
    for (end, _) in path.match_indices('/') {
        let parent = directory.at(&path[..end]);
        let made = parent.make().map_err(|errno| parent.failed(errno))?;
        if made && hierarchy.controllers.has(Controllers::CPUSET) {
            inherit_cpuset(hierarchy, &path[..end])?;
            // Groups below start with this one's processors and memory.
            parent.write("cgroup.clone_children", "1")?;
        }
    }
    directory.make().map_err(|errno| directory.failed(errno))
}

/// Gives a group the processors and memory of the one above where it has none.
pub(super) fn inherit_cpuset(hierarchy: &Hierarchy, path: &str) -> Result<(), CgroupError> {
    let directory = Directory::new(hierarchy, path);
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !directory.read(file)?.trim().is_empty() {
            continue;
        }
        let mut above = directory.at(parent).read(file)?;
        if above.trim().is_empty() && !parent.is_empty() {
            inherit_cpuset(hierarchy, parent)?;
            above = directory.at(parent).read(file)?;
        }
        directory.write(file, above.trim())?;
    }
    Ok(())
}

/// Limits to set on a group.
pub(super) struct Limits<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) resources: &'a LinuxResources,
    /// Nothing was set before, and no process is in the group.
    pub(super) fresh: bool,
}

impl Limits<'_> {
    pub(super) fn apply(&self) -> Result<(), CgroupError> {
        let resources = self.resources;
        if let Some(name) = resources.unified.keys().next() {
            return Err(CgroupError::Unsupported {
                resource: name.clone(),
                reason: "the unified map needs cgroup v2".to_owned(),
            });
        }
        if self.fresh || !resources.devices.is_empty() {
            self.devices()?;
        }
        if let Some(memory) = &resources.memory {
            self.memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            self.cpu(cpu)?;
        }
        if let Some(pids) = &resources.pids {
            let limit = if pids.limit > 0 {
                pids.limit.to_string()
            } else {
                "max".to_owned()
            };
            self.write(Controllers::PIDS, "pids.max", &limit)?;
        }
        if let Some(block_io) = &resources.block_io {
            let writes = block_io::v1(block_io);
            if !writes.is_empty() {
                block_io::write(&self.directory(Controllers::BLKIO, "blockIO")?, &writes)?;
            }
        }
        for limit in &resources.hugepage_limits {
            let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
            self.write(Controllers::HUGETLB, &file, &limit.limit.to_string())?;
        }
        if let Some(network) = &resources.network {
            self.network(network)?;
        }
        for (device, limit) in &resources.rdma {
            self.write(
                Controllers::RDMA,
                "rdma.max",
                &block_io::rdma_line(device, limit),
            )?;
        }
        Ok(())
    }

    fn directory(
        &self,
        controller: Controllers,
        resource: &str,
    ) -> Result<Directory<'_>, CgroupError> {
        self.cgroup
            .controller(controller)
            .ok_or_else(|| CgroupError::Unsupported {
                resource: resource.to_owned(),
                reason: format!("the {} cgroup is not mounted", controller.name()),
            })
    }

    fn write(&self, controller: Controllers, file: &str, value: &str) -> Result<(), CgroupError> {
        self.directory(controller, file)?
            .write_resource(file, file, value)
    }

    fn write_some(
        &self,
        controller: Controllers,
        file: &str,
        value: Option<impl ToString>,
    ) -> Result<(), CgroupError> {
        match value {
            Some(value) => self.write(controller, file, &value.to_string()),
            None => Ok(()),
        }
    }

    fn devices(&self) -> Result<(), CgroupError> {
        match self.cgroup.controller(Controllers::DEVICES) {
            Some(directory) => devices::apply_v1(&directory, &self.resources.devices, self.fresh),
            // A host without the controller only matters to those who ask.
            None if self.resources.devices.is_empty() => Ok(()),
            None => self.directory(Controllers::DEVICES, "devices").map(drop),
        }
    }

    fn memory(&self, memory: &LinuxMemory) -> Result<(), CgroupError> {
        const MEMORY: Controllers = Controllers::MEMORY;
        if let (Some(true), Some(limit @ 1..)) = (memory.check_before_update, memory.limit) {
            let usage = self
                .directory(MEMORY, "memory")?
                .read("memory.usage_in_bytes")?;
            let usage = usage.trim().parse::<i64>().unwrap_or(0);
            if usage > limit {
                return Err(CgroupError::Invalid(format!(
                    "unable to set memory limit to {limit} (current usage: {usage})"
                )));
            }
        }
        self.memory_and_swap(memory)?;
        let reservation = memory.reservation.filter(|limit| *limit != 0);
        self.write_some(MEMORY, "memory.soft_limit_in_bytes", reservation)?;
        let tcp = memory.kernel_tcp.filter(|limit| *limit != 0);
        self.write_some(MEMORY, "memory.kmem.tcp.limit_in_bytes", tcp)?;
        if memory.use_hierarchy == Some(true) {
            self.write(MEMORY, "memory.use_hierarchy", "1")?;
        }
        if memory.disable_oom_killer == Some(true)
            || !self.fresh && memory.disable_oom_killer == Some(false)
        {
            let disabled = u8::from(memory.disable_oom_killer == Some(true));
            self.write_some(MEMORY, "memory.oom_control", Some(disabled))?;
        }
        match memory.swappiness {
            // Some engines write -1 for unset.
            Some(swappiness @ 0..=100) => {
                self.write_some(MEMORY, "memory.swappiness", Some(swappiness))
            }
            None | Some(u64::MAX) => Ok(()),
            Some(swappiness) => Err(CgroupError::Invalid(format!(
                "invalid memory swappiness value: {swappiness} (valid range: 0-100)"
            ))),
        }
    }

    /// Both limits, in the order that keeps memory at or below memory and swap at each moment.
    fn memory_and_swap(&self, memory: &LinuxMemory) -> Result<(), CgroupError> {
        const MEMORY: Controllers = Controllers::MEMORY;
        const LIMIT: &str = "memory.limit_in_bytes";
        const SWAP: &str = "memory.memsw.limit_in_bytes";
        let limit = memory.limit.filter(|limit| *limit != 0);
        let mut swap = memory.swap.filter(|swap| *swap != 0);
        if limit == Some(-1) && swap.is_none() {
            // Memory without limit below a limit of both would be refused.
            swap = self
                .directory(MEMORY, LIMIT)?
                .read_optional(SWAP)?
                .map(|_| -1);
        }
        let (Some(first), Some(both)) = (limit, swap) else {
            self.write_some(MEMORY, LIMIT, limit)?;
            return self.write_some(MEMORY, SWAP, swap);
        };
        match self.write(MEMORY, LIMIT, &first.to_string()) {
            Err(CgroupError::Write { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput =>
            {
                self.write(MEMORY, SWAP, &both.to_string())?;
                self.write(MEMORY, LIMIT, &first.to_string())
            }
            other => {
                other?;
                self.write(MEMORY, SWAP, &both.to_string())
            }
        }
    }

    fn cpu(&self, cpu: &LinuxCpu) -> Result<(), CgroupError> {
        const CPU: Controllers = Controllers::CPU;
        if let Some(shares @ 1..) = cpu.shares {
            self.write_some(CPU, "cpu.shares", Some(shares.clamp(2, 262_144)))?;
        }
        self.write_some(CPU, "cpu.idle", cpu.idle)?;
        let period = cpu.period.filter(|period| *period != 0);
        let quota = cpu.quota.filter(|quota| *quota != 0);
        match self.write_some(CPU, "cpu.cfs_period_us", period) {
            // The present quota may be too much for the new period.
            Err(CgroupError::Write { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput && quota.is_some() =>
            {
                self.write_some(CPU, "cpu.cfs_quota_us", quota)?;
                self.write_some(CPU, "cpu.cfs_period_us", period)?;
            }
            other => {
                other?;
                self.write_some(CPU, "cpu.cfs_quota_us", quota)?;
            }
        }
        self.write_some(CPU, "cpu.cfs_burst_us", cpu.burst)?;
        let realtime_period = cpu.realtime_period.filter(|period| *period != 0);
        self.write_some(CPU, "cpu.rt_period_us", realtime_period)?;
        let realtime_runtime = cpu.realtime_runtime.filter(|runtime| *runtime != 0);
        self.write_some(CPU, "cpu.rt_runtime_us", realtime_runtime)?;
        let cpus = cpu.cpus.as_ref().filter(|cpus| !cpus.is_empty());
        self.write_some(Controllers::CPUSET, "cpuset.cpus", cpus)?;
        let mems = cpu.mems.as_ref().filter(|mems| !mems.is_empty());
        self.write_some(Controllers::CPUSET, "cpuset.mems", mems)
    }

    fn network(&self, network: &LinuxNetwork) -> Result<(), CgroupError> {
        let class = network.class_id.filter(|class| *class != 0);
        self.write_some(Controllers::NET_CLS, "net_cls.classid", class)?;
        for interface in &network.priorities {
            let line = format!("{} {}", interface.name, interface.priority);
            self.write(Controllers::NET_PRIO, "net_prio.ifpriomap", &line)?;
        }
        Ok(())
    }
}
