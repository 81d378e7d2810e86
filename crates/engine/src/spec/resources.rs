//! `linux.resources` without devices, from `HostConfig`; `update` uses it as well.

use cais_runtime::spec::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxWeightDevice,
};
use cais_types::api::{Resources, ThrottleDevice, WeightDevice};
use cais_types::{Error, Result};
use rustix::fs::{AtFlags, CWD, major, minor, statat};

/// Period of the processor time of `--cpus`, microseconds.
const PERIOD: u64 = 100_000;

/// The limits; what is not limited is absent.
///
/// # Errors
/// Block devices that are not there.
pub fn limits(resources: &Resources) -> Result<LinuxResources> {
    let memory = memory(resources);
    let cpu = cpu(resources);
    let block_io = block_io(resources)?;
    Ok(LinuxResources {
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCpu::default()).then_some(cpu),
        pids: pids(resources.pids_limit),
        block_io: (block_io != LinuxBlockIo::default()).then_some(block_io),
        ..LinuxResources::default()
    })
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn pids(limit: Option<i64>) -> Option<LinuxPids> {
    match limit? {
        0 => None,
        limit if limit < 0 => Some(LinuxPids { limit: -1 }),
        limit => Some(LinuxPids { limit }),
    }
}

fn memory(resources: &Resources) -> LinuxMemory {
    let swap = match (resources.memory, resources.memory_swap) {
        // As much swap again as memory, unless the user says otherwise.
        (memory, 0) if memory > 0 => Some(memory.saturating_mul(2)),
        (_, 0) => None,
        (_, swap) => Some(swap),
    };
    LinuxMemory {
        limit: (resources.memory != 0).then_some(resources.memory),
        reservation: (resources.memory_reservation != 0).then_some(resources.memory_reservation),
        swap,
        swappiness: resources
            .memory_swappiness
            .and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: resources.oom_kill_disable.filter(|disabled| *disabled),
        ..LinuxMemory::default()
    }
}

fn cpu(resources: &Resources) -> LinuxCpu {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let nano = positive(resources.nano_cpus);
    let nano_quota =
        nano.map(|nano| i64::try_from(nano * PERIOD / 1_000_000_000).unwrap_or(i64::MAX));
    LinuxCpu {
        shares: positive(resources.cpu_shares),
        quota: nano_quota.or((resources.cpu_quota != 0).then_some(resources.cpu_quota)),
        period: nano.map(|_| PERIOD).or(positive(resources.cpu_period)),
        realtime_runtime: (resources.cpu_realtime_runtime != 0)
            .then_some(resources.cpu_realtime_runtime),
        realtime_period: positive(resources.cpu_realtime_period),
        cpus: text(&resources.cpuset_cpus),
        mems: text(&resources.cpuset_mems),
        ..LinuxCpu::default()
    }
}

fn block_io(resources: &Resources) -> Result<LinuxBlockIo> {
    let weights = resources.blkio_weight_device.iter().flatten();
    Ok(LinuxBlockIo {
        weight: (resources.blkio_weight != 0).then_some(resources.blkio_weight),
        weight_device: weights.map(weight).collect::<Result<_>>()?,
        throttle_read_bps_device: throttles(resources.blkio_device_read_bps.as_ref())?,
        throttle_write_bps_device: throttles(resources.blkio_device_write_bps.as_ref())?,
        throttle_read_iops_device: throttles(resources.blkio_device_read_iops.as_ref())?,
        throttle_write_iops_device: throttles(resources.blkio_device_write_iops.as_ref())?,
        ..LinuxBlockIo::default()
    })
}

fn device_numbers(path: &str) -> Result<(i64, i64)> {
    match statat(CWD, path, AtFlags::empty()) {
        Ok(stat) => Ok((major(stat.st_rdev).into(), minor(stat.st_rdev).into())),
        Err(error) => Err(Error::invalid(format!(
            "cannot use block device {path}: {error}"
        ))),
    }
}

fn weight(device: &WeightDevice) -> Result<LinuxWeightDevice> {
    let (major, minor) = device_numbers(&device.path)?;
    Ok(LinuxWeightDevice {
        major,
        minor,
        weight: Some(device.weight),
        leaf_weight: None,
    })
}

fn throttles(devices: Option<&Vec<ThrottleDevice>>) -> Result<Vec<LinuxThrottleDevice>> {
    let throttle = |device: &ThrottleDevice| {
        let (major, minor) = device_numbers(&device.path)?;
        Ok(LinuxThrottleDevice {
            major,
            minor,
            rate: device.rate,
        })
    };
    devices.into_iter().flatten().map(throttle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_translated() {
        let resources = Resources {
            memory: 64 << 20,
            nano_cpus: 1_500_000_000,
            pids_limit: Some(7),
            cpuset_cpus: "0".into(),
            ..Resources::default()
        };
        let limits = limits(&resources).unwrap();
        let memory = limits.memory.unwrap();
        assert_eq!(
            (memory.limit, memory.swap),
            (Some(64 << 20), Some(128 << 20))
        );
        let cpu = limits.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
        assert_eq!(cpu.cpus.as_deref(), Some("0"));
        assert_eq!(limits.pids.unwrap().limit, 7);
        assert!(limits.block_io.is_none());
    }

    #[test]
    fn nothing_asked_is_nothing_limited() {
        assert_eq!(
            limits(&Resources::default()).unwrap(),
            LinuxResources::default()
        );
    }
}
