//! Figures of a group, of both versions in one shape; enough for what Docker shows of either.

use std::collections::BTreeMap;

use super::file::{Directory, value_of};
use super::hierarchy::{Controllers, Hierarchy};
use super::{CgroupError, Version};

/// All figures of a group. A controller that is not there leaves its part at zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Decides the shape Docker shows.
    pub version: Version,
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub block_io: BlockIoStats,
    /// By page size, as `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// Processor time, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub total_ns: u64,
    /// v1 only.
    pub per_cpu_ns: Vec<u64>,
    pub user_ns: u64,
    pub kernel_ns: u64,
    /// Periods in which the quota was in force.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage: u64,
    /// Highest usage so far; where the kernel keeps it.
    pub max_usage: Option<u64>,
    /// `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit (v1), or was hit without anything to reclaim (v2), as Docker shows them.
    pub failcnt: u64,
    /// Swap alone; where the kernel accounts it.
    pub swap_usage: Option<u64>,
    /// The lines of `memory.stat`.
    pub stat: BTreeMap<String, u64>,
}

/// Number of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    pub current: u64,
    /// `u64::MAX` for none.
    pub limit: u64,
}

/// Figures of all block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIoStats {
    /// Bytes.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Operations.
    pub serviced: Vec<BlockIoEntry>,
}

/// A figure of one device; `operation` as the kernel names it (`Read` in v1, `read` in v2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIoEntry {
    pub major: u64,
    pub minor: u64,
    pub operation: String,
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    pub usage: u64,
    /// v1 only.
    pub max_usage: u64,
    pub failcnt: u64,
}

/// A single number; `max` and what v1 says for it (anything above 2^62) are `u64::MAX`.
fn number(directory: &Directory<'_>, file: &str) -> Result<Option<u64>, CgroupError> {
    let Some(text) = directory.read_optional(file)? else {
        return Ok(None);
    };
    Ok(match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits
            .parse()
            .ok()
            .map(|n: u64| if n > 1 << 62 { u64::MAX } else { n }),
    })
}

fn zero_if_missing(directory: &Directory<'_>, file: &str) -> Result<u64, CgroupError> {
    Ok(number(directory, file)?.unwrap_or(0))
}

fn map_of(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    });
    pairs.collect()
}

pub(super) fn v1(hierarchies: &[Hierarchy], path: &str) -> Result<Stats, CgroupError> {
    let at = |controller: Controllers| {
        let found = hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.has(controller));
        found.map(|hierarchy| Directory::new(hierarchy, path))
    };
    let mut stats = Stats {
        version: Version::V1,
        cpu: CpuStats::default(),
        memory: MemoryStats::default(),
        pids: PidsStats::default(),
        block_io: BlockIoStats::default(),
        hugetlb: BTreeMap::new(),
    };
    if let Some(directory) = at(Controllers::CPUACCT) {
        v1_cpu_usage(&directory, &mut stats.cpu)?;
    }
    if let Some(directory) = at(Controllers::CPU) {
        let text = directory.read_optional("cpu.stat")?.unwrap_or_default();
        stats.cpu.periods = value_of(&text, "nr_periods").unwrap_or(0);
        stats.cpu.throttled_periods = value_of(&text, "nr_throttled").unwrap_or(0);
        stats.cpu.throttled_ns = value_of(&text, "throttled_time").unwrap_or(0);
    }
    if let Some(directory) = at(Controllers::MEMORY) {
        stats.memory = v1_memory(&directory)?;
    }
    if let Some(directory) = at(Controllers::PIDS) {
        stats.pids = pids(&directory)?;
    }
    if let Some(directory) = at(Controllers::BLKIO) {
        stats.block_io.service_bytes = v1_block_io(&directory, "io_service_bytes_recursive")?;
        stats.block_io.serviced = v1_block_io(&directory, "io_serviced_recursive")?;
    }
    if let Some(directory) = at(Controllers::HUGETLB) {
        for size in page_sizes() {
            let file = |what: &str| format!("hugetlb.{size}.{what}");
            let figures = HugetlbStats {
                usage: zero_if_missing(&directory, &file("usage_in_bytes"))?,
                max_usage: zero_if_missing(&directory, &file("max_usage_in_bytes"))?,
                failcnt: zero_if_missing(&directory, &file("failcnt"))?,
            };
            stats.hugetlb.insert(size, figures);
        }
    }
    Ok(stats)
}

fn v1_cpu_usage(directory: &Directory<'_>, cpu: &mut CpuStats) -> Result<(), CgroupError> {
    cpu.total_ns = zero_if_missing(directory, "cpuacct.usage")?;
    cpu.user_ns = zero_if_missing(directory, "cpuacct.usage_user")?;
    cpu.kernel_ns = zero_if_missing(directory, "cpuacct.usage_sys")?;
    let text = directory
        .read_optional("cpuacct.usage_percpu")?
        .unwrap_or_default();
    cpu.per_cpu_ns = text
        .split_whitespace()
        .filter_map(|one| one.parse().ok())
        .collect();
    Ok(())
}

fn v1_memory(directory: &Directory<'_>) -> Result<MemoryStats, CgroupError> {
    let usage = zero_if_missing(directory, "memory.usage_in_bytes")?;
    let both = number(directory, "memory.memsw.usage_in_bytes")?;
    Ok(MemoryStats {
        usage,
        max_usage: number(directory, "memory.max_usage_in_bytes")?,
        limit: number(directory, "memory.limit_in_bytes")?.unwrap_or(u64::MAX),
        failcnt: zero_if_missing(directory, "memory.failcnt")?,
        swap_usage: both.map(|both| both.saturating_sub(usage)),
        stat: map_of(&directory.read_optional("memory.stat")?.unwrap_or_default()),
    })
}

fn pids(directory: &Directory<'_>) -> Result<PidsStats, CgroupError> {
    Ok(PidsStats {
        current: zero_if_missing(directory, "pids.current")?,
        limit: number(directory, "pids.max")?.unwrap_or(u64::MAX),
    })
}

/// BFQ's figures where that scheduler keeps some, else those of the throttler.
fn v1_block_io(directory: &Directory<'_>, what: &str) -> Result<Vec<BlockIoEntry>, CgroupError> {
    for prefix in ["blkio.bfq.", "blkio.throttle."] {
        let text = directory
            .read_optional(&format!("{prefix}{what}"))?
            .unwrap_or_default();
        let entries = v1_block_io_lines(&text);
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

fn v1_block_io_lines(text: &str) -> Vec<BlockIoEntry> {
    let entries = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    });
    entries.collect()
}

pub(super) fn v2(directory: &Directory<'_>) -> Result<Stats, CgroupError> {
    let text = directory.read_optional("cpu.stat")?.unwrap_or_default();
    let nanoseconds = |key| value_of(&text, key).unwrap_or(0).saturating_mul(1000);
    let cpu = CpuStats {
        total_ns: nanoseconds("usage_usec"),
        per_cpu_ns: Vec::new(),
        user_ns: nanoseconds("user_usec"),
        kernel_ns: nanoseconds("system_usec"),
        periods: value_of(&text, "nr_periods").unwrap_or(0),
        throttled_periods: value_of(&text, "nr_throttled").unwrap_or(0),
        throttled_ns: nanoseconds("throttled_usec"),
    };
    let events = directory
        .read_optional("memory.events")?
        .unwrap_or_default();
    let memory = MemoryStats {
        usage: zero_if_missing(directory, "memory.current")?,
        max_usage: number(directory, "memory.peak")?,
        limit: number(directory, "memory.max")?.unwrap_or(u64::MAX),
        failcnt: value_of(&events, "oom").unwrap_or(0),
        swap_usage: number(directory, "memory.swap.current")?,
        stat: map_of(&directory.read_optional("memory.stat")?.unwrap_or_default()),
    };
    let mut hugetlb = BTreeMap::new();
    for size in page_sizes() {
        let Some(usage) = number(directory, &format!("hugetlb.{size}.current"))? else {
            continue;
        };
        let events = directory
            .read_optional(&format!("hugetlb.{size}.events"))?
            .unwrap_or_default();
        let failcnt = value_of(&events, "max").unwrap_or(0);
        hugetlb.insert(
            size,
            HugetlbStats {
                usage,
                max_usage: 0,
                failcnt,
            },
        );
    }
    let block_io = v2_block_io(&directory.read_optional("io.stat")?.unwrap_or_default());
    Ok(Stats {
        version: Version::V2,
        cpu,
        memory,
        pids: pids(directory)?,
        block_io,
        hugetlb,
    })
}

fn v2_block_io(text: &str) -> BlockIoStats {
    let mut stats = BlockIoStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut stats.service_bytes, "read"),
                "wbytes" => (&mut stats.service_bytes, "write"),
                "dbytes" => (&mut stats.service_bytes, "discard"),
                "rios" => (&mut stats.serviced, "read"),
                "wios" => (&mut stats.serviced, "write"),
                "dios" => (&mut stats.serviced, "discard"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlockIoEntry {
                major,
                minor,
                operation: operation.to_owned(),
                value,
            });
        }
    }
    stats
}

/// Sizes of huge pages, as the files of the hugetlb controller spell them.
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let sizes = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let kib = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()?;
        Some(match kib {
            0..1024 => format!("{kib}KB"),
            1024..1_048_576 => format!("{}MB", kib / 1024),
            _ => format!("{}GB", kib / 1_048_576),
        })
    });
    sizes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_versions_are_read() {
        let entry = |operation: &str, value| BlockIoEntry {
            major: 8,
            minor: 16,
            operation: operation.to_owned(),
            value,
        };
        let v1 = v1_block_io_lines("8:16 Read 4096\n8:16 Write 0\nTotal 4096\n");
        assert_eq!(v1, [entry("Read", 4096), entry("Write", 0)]);
        let v2 = v2_block_io("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n");
        assert_eq!(
            v2.service_bytes,
            [entry("read", 10), entry("write", 20), entry("discard", 0)]
        );
        assert_eq!(v2.serviced[1], entry("write", 2));
        assert_eq!(map_of("cache 12\nrss 5\n\n").get("rss"), Some(&5));
    }
}
