//! Limits that are lines of a device and a number: block IO of both versions, and RDMA.

use std::io;

use super::CgroupError;
use super::convert::io_weight;
use super::file::Directory;
use crate::spec::{LinuxBlockIo, LinuxRdma, LinuxThrottleDevice};

/// A line to write, and the files that may take it: kernels have one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    files: &'static [&'static str],
    /// Beside each file, as the scales differ.
    values: Vec<String>,
}

impl Write {
    fn one(files: &'static [&'static str], value: String) -> Self {
        Self {
            values: vec![value; files.len()],
            files,
        }
    }
}

/// Writes each line to the first of its files that there is.
pub(super) fn write(directory: &Directory<'_>, writes: &[Write]) -> Result<(), CgroupError> {
    for Write { files, values } in writes {
        let mut last = Ok(());
        for (file, value) in files.iter().zip(values) {
            last = directory.write_resource("block IO limit", file, value);
            if !matches!(last, Err(CgroupError::Unsupported { .. })) {
                break;
            }
        }
        match last {
            // A scheduler that keeps no weights for this device answers so.
            Err(CgroupError::Write {
                source,
                path,
                value,
            }) if source.kind() == io::ErrorKind::Unsupported => {
                return Err(CgroupError::Unsupported {
                    resource: format!("block IO limit {value:?}"),
                    reason: format!("{path} does not take it"),
                });
            }
            other => other?,
        }
    }
    Ok(())
}

/// Writes for v1.
pub(super) fn v1(limits: &LinuxBlockIo) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight @ 1..) = limits.weight {
        writes.push(Write::one(
            &["blkio.weight", "blkio.bfq.weight"],
            weight.to_string(),
        ));
    }
    if let Some(weight @ 1..) = limits.leaf_weight {
        writes.push(Write::one(&["blkio.leaf_weight"], weight.to_string()));
    }
    for device in &limits.weight_device {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight @ 1..) = device.weight {
            writes.push(Write::one(
                &["blkio.weight_device", "blkio.bfq.weight_device"],
                line(weight),
            ));
        }
        if let Some(weight @ 1..) = device.leaf_weight {
            writes.push(Write::one(&["blkio.leaf_weight_device"], line(weight)));
        }
    }
    let throttles: [(&'static [&'static str], _); 4] = [
        (
            &["blkio.throttle.read_bps_device"],
            &limits.throttle_read_bps_device,
        ),
        (
            &["blkio.throttle.write_bps_device"],
            &limits.throttle_write_bps_device,
        ),
        (
            &["blkio.throttle.read_iops_device"],
            &limits.throttle_read_iops_device,
        ),
        (
            &["blkio.throttle.write_iops_device"],
            &limits.throttle_write_iops_device,
        ),
    ];
    for (file, devices) in throttles {
        writes.extend(devices.iter().map(|device| {
            Write::one(
                file,
                format!("{}:{} {}", device.major, device.minor, device.rate),
            )
        }));
    }
    writes
}

/// Writes for v2.
pub(super) fn v2(limits: &LinuxBlockIo) -> Vec<Write> {
    const WEIGHT: &[&str] = &["io.bfq.weight", "io.weight"];
    let mut writes = Vec::new();
    if let Some(weight @ 1..) = limits.weight {
        let values = vec![weight.to_string(), io_weight(weight).to_string()];
        writes.push(Write {
            files: WEIGHT,
            values,
        });
    }
    for device in &limits.weight_device {
        if let Some(weight @ 1..) = device.weight {
            let name = format!("{}:{}", device.major, device.minor);
            let values = vec![
                format!("{name} {weight}"),
                format!("{name} {}", io_weight(weight)),
            ];
            writes.push(Write {
                files: WEIGHT,
                values,
            });
        }
    }
    let throttles = [
        ("rbps", &limits.throttle_read_bps_device),
        ("wbps", &limits.throttle_write_bps_device),
        ("riops", &limits.throttle_read_iops_device),
        ("wiops", &limits.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        writes.extend(
            devices
                .iter()
                .map(|device| Write::one(&["io.max"], throttle(key, device))),
        );
    }
    writes
}

fn throttle(key: &str, device: &LinuxThrottleDevice) -> String {
    let LinuxThrottleDevice { major, minor, rate } = device;
    match rate {
        0 => format!("{major}:{minor} {key}=max"),
        rate => format!("{major}:{minor} {key}={rate}"),
    }
}

/// A line of `rdma.max`.
pub(super) fn rdma_line(device: &str, limit: &LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (key, value) in [
        ("hca_handle", limit.hca_handles),
        ("hca_object", limit.hca_objects),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LinuxWeightDevice;

    #[test]
    fn both_versions_get_their_lines() {
        let limits = LinuxBlockIo {
            weight: Some(500),
            weight_device: vec![LinuxWeightDevice {
                major: 8,
                minor: 1,
                weight: Some(10),
                leaf_weight: None,
            }],
            throttle_read_bps_device: vec![LinuxThrottleDevice {
                major: 8,
                minor: 0,
                rate: 1024,
            }],
            throttle_write_iops_device: vec![LinuxThrottleDevice {
                major: 8,
                minor: 0,
                rate: 0,
            }],
            ..LinuxBlockIo::default()
        };
        let lines = |writes: Vec<Write>| {
            writes
                .into_iter()
                .map(|write| (write.files.concat(), write.values.join("|")))
                .collect::<Vec<_>>()
        };
        let pair = |file: &str, value: &str| (file.to_owned(), value.to_owned());
        assert_eq!(
            lines(v2(&limits)),
            [
                pair("io.bfq.weightio.weight", "500|4950"),
                pair("io.bfq.weightio.weight", "8:1 10|8:1 1"),
                pair("io.max", "8:0 rbps=1024"),
                pair("io.max", "8:0 wiops=max"),
            ]
        );
        assert_eq!(
            lines(v1(&limits))[2],
            pair("blkio.throttle.read_bps_device", "8:0 1024")
        );
        let rdma = LinuxRdma {
            hca_handles: Some(3),
            hca_objects: None,
        };
        assert_eq!(rdma_line("mlx5_1", &rdma), "mlx5_1 hca_handle=3");
    }
}
