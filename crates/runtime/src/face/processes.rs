//! `ps`: the processes of a container.

use std::process::Command;

use super::arguments::{Arguments, Flag, Order};
use super::{Context, FaceError, Result, io, print, print_json, said};

const FLAGS: &[Flag] = &[Flag(&["format", "f"], true)];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    // Flags of ours stand before the id, those of ps behind it.
    let arguments = Arguments::parse(FLAGS, Order::First, words)?;
    let Some((id, options)) = arguments.words.split_first() else {
        return said("container id cannot be empty");
    };
    let pids = context.store.load(id)?.cgroup()?.pids()?;
    match arguments.value("format").unwrap_or("table") {
        "json" => print_json(&pids, false)?,
        "table" => print(table(&pids, options)?)?,
        _ => return said("invalid format option"),
    }
    Ok(0)
}

/// What ps(1) of the host says of them.
fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output().map_err(io("ps"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return said(format!("{}: {text}", output.status));
    }
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| FaceError::Said("couldn't find PID field in ps output".to_owned()))?;
    let ours = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: i32| pids.contains(&pid))
    });
    Ok(std::iter::once(head)
        .chain(ours)
        .map(|line| format!("{line}\n"))
        .collect())
}
