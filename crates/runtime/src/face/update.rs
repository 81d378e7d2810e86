//! `update`: other limits for a living container.

use std::io::Read as _;

use super::arguments::{Arguments, Flag, Order};
use super::{Context, FaceError, Result, io, said};
use crate::spec::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, Status};

const FLAGS: &[Flag] = &[
    Flag(&["resources", "r"], true),
    Flag(&["blkio-weight"], true),
    Flag(&["cpu-period"], true),
    Flag(&["cpu-quota"], true),
    Flag(&["cpu-burst"], true),
    Flag(&["cpu-share"], true),
    Flag(&["cpu-rt-period"], true),
    Flag(&["cpu-rt-runtime"], true),
    Flag(&["cpu-idle"], true),
    Flag(&["cpuset-cpus"], true),
    Flag(&["cpuset-mems"], true),
    Flag(&["kernel-memory"], true),
    Flag(&["kernel-memory-tcp"], true),
    Flag(&["memory"], true),
    Flag(&["memory-reservation"], true),
    Flag(&["memory-swap"], true),
    Flag(&["pids-limit"], true),
    Flag(&["l3-cache-schema"], true),
    Flag(&["mem-bw-schema"], true),
];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    if container.status() == Status::Stopped {
        return said("container not running");
    }
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.value(flag).is_some() {
            return said(format!(
                "--{flag}: Intel RDT is not supported by this runtime"
            ));
        }
    }
    let resources = match arguments.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(&arguments)?,
    };
    container.cgroup()?.apply(&resources)?;
    Ok(0)
}

/// From a file, or standard input when it is `-`.
fn read(path: &str) -> Result<LinuxResources> {
    let mut text = Vec::new();
    match path {
        "-" => std::io::stdin().read_to_end(&mut text).map(drop),
        path => std::fs::read(path).map(|read| text = read),
    }
    .map_err(io(path))?;
    let resources = serde_json::from_slice(&text).map_err(std::io::Error::from);
    resources.map_err(io(path))
}

fn from_flags(arguments: &Arguments) -> Result<LinuxResources> {
    let bytes = |flag: &str| -> Result<Option<i64>> {
        let Some(text) = arguments.value(flag) else {
            return Ok(None);
        };
        if text == "-1" {
            return Ok(Some(-1));
        }
        let size = cais_types::size::ram_in_bytes(text)
            .map_err(|_| FaceError::Said(format!("invalid value for {flag}: {text:?}")))?;
        Ok(Some(size))
    };
    let text = |flag: &str| arguments.value(flag).map(str::to_owned);
    let cpu = LinuxCpu {
        shares: arguments.number("cpu-share")?,
        quota: arguments.number("cpu-quota")?,
        burst: arguments.number("cpu-burst")?,
        period: arguments.number("cpu-period")?,
        realtime_runtime: arguments.number("cpu-rt-runtime")?,
        realtime_period: arguments.number("cpu-rt-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        idle: arguments.number("cpu-idle")?,
    };
    let memory = LinuxMemory {
        limit: bytes("memory")?,
        reservation: bytes("memory-reservation")?,
        swap: bytes("memory-swap")?,
        kernel: bytes("kernel-memory")?,
        kernel_tcp: bytes("kernel-memory-tcp")?,
        ..LinuxMemory::default()
    };
    let block_io = LinuxBlockIo {
        weight: arguments.number("blkio-weight")?,
        ..LinuxBlockIo::default()
    };
    Ok(LinuxResources {
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCpu::default()).then_some(cpu),
        pids: arguments
            .number("pids-limit")?
            .map(|limit| LinuxPids { limit }),
        block_io: (block_io != LinuxBlockIo::default()).then_some(block_io),
        ..LinuxResources::default()
    })
}
