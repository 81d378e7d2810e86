//! `events`: figures of a container, once or again and again, and a word when it runs out of memory.

use std::os::fd::AsFd as _;

use serde_json::{Value, json};

use super::arguments::{Arguments, Flag, Order};
use super::store::Container;
use super::{Context, FaceError, Result, io, print_json, said};
use crate::cgroups::{BlockIoEntry, Stats};

const FLAGS: &[Flag] = &[Flag(&["stats"], false), Flag(&["interval"], true)];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    let interval = arguments.value("interval").unwrap_or("5s");
    let interval = cais_types::human::parse_go_duration(interval)
        .filter(|nanoseconds| *nanoseconds > 0)
        .ok_or_else(|| FaceError::Said("duration interval must be greater than 0".to_owned()))?;
    let Some(init) = container.init() else {
        return said(format!(
            "container with id {} is not running",
            container.record.id
        ));
    };
    if arguments.is_set("stats") {
        return event(&container, "stats", Some(stats(&container)?)).map(|()| 0);
    }
    let mut kills = container.cgroup()?.oom_kills()?;
    while !cais_sys::pidfd::wait_end(init.as_fd(), interval / 1_000_000).map_err(io("wait"))? {
        let now = container.cgroup()?.oom_kills()?;
        if now > kills {
            event(&container, "oom", None)?;
        }
        kills = now;
        event(&container, "stats", Some(stats(&container)?))?;
    }
    Ok(0)
}

fn event(container: &Container, kind: &str, data: Option<Value>) -> Result<()> {
    let mut line = json!({"type": kind, "id": container.record.id});
    if let Some(data) = data {
        line["data"] = data;
    }
    print_json(&line, false)
}

fn entries(entries: &[BlockIoEntry]) -> Value {
    let one = |entry: &BlockIoEntry| {
        json!({
            "major": entry.major,
            "minor": entry.minor,
            "op": entry.operation,
            "value": entry.value,
        })
    };
    entries.iter().map(one).collect()
}

fn stats(container: &Container) -> Result<Value> {
    let Stats {
        cpu,
        memory,
        pids,
        block_io,
        hugetlb,
        ..
    } = container.cgroup()?.stats()?;
    let cache = ["total_cache", "cache", "file"]
        .iter()
        .find_map(|name| memory.stat.get(*name));
    let hugetlb: serde_json::Map<String, Value> = hugetlb
        .into_iter()
        .map(|(size, one)| {
            let figures = json!({"usage": one.usage, "max": one.max_usage, "failcnt": one.failcnt});
            (size, figures)
        })
        .collect();
    Ok(json!({
        "cpu": {
            "usage": {
                "total": cpu.total_ns,
                "percpu": cpu.per_cpu_ns,
                "kernel": cpu.kernel_ns,
                "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": cache.copied().unwrap_or(0),
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.max_usage.unwrap_or(0),
                "failcnt": memory.failcnt,
            },
            "swap": {"usage": memory.swap_usage.unwrap_or(0)},
            "raw": memory.stat,
        },
        "pids": {"current": pids.current, "limit": pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": entries(&block_io.service_bytes),
            "ioServicedRecursive": entries(&block_io.serviced),
        },
        "hugetlb": hugetlb,
        "network_interfaces": null,
    }))
}
