//! `GET /containers/{id}/top`: the container's processes as ps shows them. The host's `ps` runs with the caller's options, and
//! only lines of the container's processes are answered; nothing of the container is entered or executed.

use std::collections::HashSet;
use std::process::Stdio;

use cais_types::api::ContainerTopResponse;
use cais_types::{Error, Result};

use cais_engine::house::House;

/// Runs ps and picks the container's lines.
///
/// # Errors
/// Conflict: it does not run; Invalid: options without a PID column.
pub async fn top(house: &House, name: &str, ps_args: Option<&str>) -> Result<ContainerTopResponse> {
    let container = house.store.find(name)?;
    let record = container.record();
    if !record.state.status.has_process() {
        return Err(Error::conflict(format!(
            "container {} is not running",
            record.id
        )));
    }
    let arguments = ps_args.filter(|args| !args.is_empty()).unwrap_or("-ef");
    check(arguments)?;
    let cgroup = house.cgroup(&record.id, &record.host_config.resources.cgroup_parent);
    let pids: HashSet<i32> = house.ports.kernel.processes(&cgroup)?.into_iter().collect();
    let output = tokio::process::Command::new("ps")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Error::internal(format!("cannot run ps: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!("ps: {}", text.trim())));
    }
    pick(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// Options that take a pid list of their own would show foreign processes under any filter; ps refuses most mixtures itself.
fn check(arguments: &str) -> Result<()> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || " -,=%_:+.".contains(c));
    if arguments.chars().any(odd) {
        return Err(Error::invalid(format!(
            "invalid ps arguments: {arguments:?}"
        )));
    }
    Ok(())
}

fn pick(output: &str, pids: &HashSet<i32>) -> Result<ContainerTopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    };
    let mut processes = Vec::new();
    for line in lines {
        let row = cells(line, titles.len());
        let pid = row.get(column).and_then(|cell| cell.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            processes.push(row);
        }
    }
    Ok(ContainerTopResponse { processes, titles })
}

/// Splits a line into as many cells as there are titles; the last one keeps its spaces.
fn cells(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut cells = Vec::with_capacity(count);
    while cells.len() + 1 < count {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (cell, tail) = rest.split_at(end);
        cells.push(cell.to_owned());
        rest = tail.trim_start();
    }
    cells.push(rest.trim_end().to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_container_are_picked() {
        let output =
            "UID   PID PPID CMD\nroot    1    0 /sbin/init\nroot   42    7 sleep  1000 x\n";
        let response = pick(output, &HashSet::from([42])).unwrap();
        assert_eq!(response.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(response.processes, [["root", "42", "7", "sleep  1000 x"]]);
        assert!(pick("UID CMD\n", &HashSet::new()).is_err());
    }
}
