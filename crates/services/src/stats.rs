//! `GET /containers/{id}/stats`: a container's cgroup and interfaces as samples, in the shapes Docker has for cgroup v1 and v2.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cais_runtime::cgroups;
use cais_types::Result;
use cais_types::api::query::StatsQuery;
use cais_types::api::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, ThrottlingData,
};
use tokio::sync::mpsc;

use super::pipe::{Answers, stream_of};
use cais_engine::container::Container;
use cais_engine::house::{House, blocking};

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Samples a container: once, once after a first sample that is not shown, or every second until the client goes.
///
/// # Errors
/// Not found.
pub async fn stats(
    house: &Arc<House>,
    name: &str,
    query: StatsQuery,
) -> Result<Answers<ContainerStats>> {
    let container = house.store.find(name)?;
    let (sender, receiver) = mpsc::channel(1);
    let sampler = Sampler {
        house: Arc::clone(house),
        container,
    };
    tokio::spawn(async move {
        sampler.run(query, sender).await;
    });
    Ok(stream_of(receiver))
}

struct Sampler {
    house: Arc<House>,
    container: Arc<Container>,
}

impl Sampler {
    async fn run(&self, query: StatsQuery, sender: mpsc::Sender<Result<ContainerStats>>) {
        let mut previous: Option<ContainerStats> = None;
        loop {
            let sample = match self.sample(previous.as_ref()).await {
                Ok(sample) => sample,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            let first = previous.is_none();
            let running = self.container.record().state.status.has_process();
            // A stream starts at once; a single answer needs two samples unless it is a one-shot or nothing runs.
            let shown = query.stream || query.one_shot || !first || !running;
            previous = Some(sample.clone());
            if shown && (sender.send(Ok(sample)).await.is_err() || !query.stream) {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            if self.container.life.borrow().removed {
                return;
            }
        }
    }

    async fn sample(&self, previous: Option<&ContainerStats>) -> Result<ContainerStats> {
        let record = self.container.record();
        let mut sample = ContainerStats {
            name: record.slash_name(),
            id: record.id.to_string(),
            ..ContainerStats::default()
        };
        if record.state.status.has_process() {
            let cgroup = self
                .house
                .cgroup(&record.id, &record.host_config.resources.cgroup_parent);
            let (pid, kernel) = (record.state.pid, Arc::clone(&self.house.ports.kernel));
            let figures = blocking(move || Ok((kernel.figures(&cgroup)?, interfaces(pid)))).await;
            // It may have ended since the snapshot: then there is nothing to show.
            if let Ok((figures, networks)) = figures {
                sample.read = cais_engine::time::now();
                sample.networks = networks;
                fill(&mut sample, &figures);
            }
        }
        if let Some(previous) = previous {
            sample.preread.clone_from(&previous.read);
            sample.precpu_stats = previous.cpu_stats.clone();
        }
        Ok(sample)
    }
}

fn fill(sample: &mut ContainerStats, figures: &cgroups::Stats) {
    sample.pids_stats = PidsStats {
        current: figures.pids.current,
        limit: figures.pids.limit,
    };
    sample.cpu_stats = CpuStats {
        cpu_usage: CpuUsage {
            total_usage: figures.cpu.total_ns,
            percpu_usage: figures.cpu.per_cpu_ns.clone(),
            usage_in_kernelmode: figures.cpu.kernel_ns,
            usage_in_usermode: figures.cpu.user_ns,
        },
        system_cpu_usage: system_cpu_ns(),
        online_cpus: online_cpus(),
        throttling_data: ThrottlingData {
            periods: figures.cpu.periods,
            throttled_periods: figures.cpu.throttled_periods,
            throttled_time: figures.cpu.throttled_ns,
        },
    };
    let memory = &figures.memory;
    sample.memory_stats = MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or(0),
        stats: memory.stat.clone(),
        failcnt: memory.failcnt,
        // Without a limit of its own a container may use the machine's memory.
        limit: memory.limit.min(memory_total()),
    };
    let entries = |entries: &[cgroups::BlockIoEntry]| {
        let entry = |entry: &cgroups::BlockIoEntry| BlkioEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.operation.clone(),
            value: entry.value,
        };
        Some(entries.iter().map(entry).collect::<Vec<_>>())
    };
    sample.blkio_stats = BlkioStats {
        io_service_bytes_recursive: entries(&figures.block_io.service_bytes),
        io_serviced_recursive: entries(&figures.block_io.serviced)
            .filter(|_| figures.version == cgroups::Version::V1),
        ..BlkioStats::default()
    };
}

/// Interfaces of a process's network namespace but `lo`, from `/proc/<pid>/net/dev`.
fn interfaces(pid: i32) -> BTreeMap<String, NetworkStats> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    parse_interfaces(&text)
}

fn parse_interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let mut interfaces = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = rest
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let (name, at) = (name.trim(), |index: usize| {
            numbers.get(index).copied().unwrap_or(0)
        });
        if name == "lo" {
            continue;
        }
        let stats = NetworkStats {
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        };
        interfaces.insert(name.to_owned(), stats);
    }
    interfaces
}

/// Processor time of the whole machine, nanoseconds: the first line of `/proc/stat` without guest time.
fn system_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

fn online_cpus() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

fn memory_total() -> u64 {
    let total = crate::system::memory_total();
    u64::try_from(total).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_their_table() {
        let text = "Inter-| Receive | Transmit\n face |bytes ...\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";
        let interfaces = parse_interfaces(text);
        assert_eq!(interfaces.len(), 1);
        let eth0 = &interfaces["eth0"];
        assert_eq!(
            (
                eth0.rx_bytes,
                eth0.rx_dropped,
                eth0.tx_bytes,
                eth0.tx_dropped
            ),
            (100, 4, 500, 8)
        );
    }
}
