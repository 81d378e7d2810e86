//! What `stats` computes from a sample.

use cais_types::api::ContainerStats;
use cais_types::human::{bytes_size, human_size_with_precision};

/// The numbers of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    /// In percent of one processor.
    pub cpu: f64,
    /// In bytes, without the page cache that could be dropped.
    pub memory: f64,
    /// In bytes.
    pub memory_limit: f64,
    /// In percent of the limit.
    pub memory_share: f64,
    /// Bytes received and sent.
    pub network: (f64, f64),
    /// Bytes read and written.
    pub block: (f64, f64),
    /// Processes and threads.
    pub pids: u64,
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Numbers {
    /// Those of a sample.
    pub(super) fn of(sample: &ContainerStats) -> Self {
        let memory = used_memory(sample);
        let limit = float(sample.memory_stats.limit);
        let networks = sample.networks.values();
        Self {
            cpu: cpu(sample),
            memory,
            memory_limit: limit,
            memory_share: if limit > 0.0 {
                memory / limit * 100.0
            } else {
                0.0
            },
            network: networks.fold((0.0, 0.0), |(received, sent), network| {
                (
                    received + float(network.rx_bytes),
                    sent + float(network.tx_bytes),
                )
            }),
            block: block(sample),
            pids: sample.pids_stats.current,
        }
    }

    /// `312KiB / 23.54GiB`.
    pub(super) fn memory_text(&self) -> String {
        format!(
            "{} / {}",
            bytes_size(self.memory),
            bytes_size(self.memory_limit)
        )
    }
}

/// `1.2kB / 0B`.
pub(super) fn pair((left, right): (f64, f64)) -> String {
    format!(
        "{} / {}",
        human_size_with_precision(left, 3),
        human_size_with_precision(right, 3)
    )
}

fn cpu(sample: &ContainerStats) -> f64 {
    let (now, before) = (&sample.cpu_stats, &sample.precpu_stats);
    let own = float(now.cpu_usage.total_usage) - float(before.cpu_usage.total_usage);
    let whole = float(now.system_cpu_usage) - float(before.system_cpu_usage);
    let processors = match now.online_cpus {
        0 => float(now.cpu_usage.percpu_usage.len() as u64),
        count => f64::from(count),
    };
    if own > 0.0 && whole > 0.0 {
        own / whole * processors * 100.0
    } else {
        0.0
    }
}

/// Cgroup v1 and v2 name the cache differently.
fn used_memory(sample: &ContainerStats) -> f64 {
    let memory = &sample.memory_stats;
    let cache = ["total_inactive_file", "inactive_file"]
        .iter()
        .filter_map(|name| memory.stats.get(*name))
        .find(|cache| **cache < memory.usage);
    float(memory.usage - cache.copied().unwrap_or(0))
}

fn block(sample: &ContainerStats) -> (f64, f64) {
    let entries = sample
        .blkio_stats
        .io_service_bytes_recursive
        .iter()
        .flatten();
    entries.fold((0.0, 0.0), |(read, written), entry| {
        match entry.op.bytes().next() {
            Some(b'r' | b'R') => (read + float(entry.value), written),
            Some(b'w' | b'W') => (read, written + float(entry.value)),
            _ => (read, written),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_sample() {
        let sample: ContainerStats = serde_json::from_str(
            r#"{"cpu_stats":{"cpu_usage":{"total_usage":3000000},"system_cpu_usage":2000000000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":1000000},"system_cpu_usage":1000000000},
            "memory_stats":{"usage":500000,"limit":1000000,"stats":{"inactive_file":100000}},
            "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":1},"eth1":{"rx_bytes":500}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":7},{"op":"write","value":9},{"op":"Total","value":16}]},
            "pids_stats":{"current":4}}"#,
        )
        .unwrap();
        let numbers = Numbers::of(&sample);
        assert_eq!(format!("{:.2}", numbers.cpu), "0.40");
        assert_eq!(numbers.memory_text(), "390.6KiB / 976.6KiB");
        assert_eq!(format!("{:.2}", numbers.memory_share), "40.00");
        assert_eq!(pair(numbers.network), "1.5kB / 1B");
        assert_eq!(pair(numbers.block), "7B / 9B");
        assert_eq!(numbers.pids, 4);
    }
}
