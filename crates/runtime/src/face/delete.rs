//! `delete`: what is left of a container goes.

use std::os::fd::AsFd as _;

use super::arguments::{Arguments, Flag, Order};
use super::store::Container;
use super::{Context, Result, io, kill, said};
use crate::container::hooks;
use crate::spec::{NamespaceType, Spec, Status};

const FLAGS: &[Flag] = &[Flag(&["force", "f"], false)];
/// How long a killed init may take to end, milliseconds.
const PATIENCE: i64 = 10_000;

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    let (id, force) = (arguments.id()?, arguments.is_set("force"));
    let container = match context.store.load(id) {
        Ok(container) => container,
        Err(_) if force => return context.store.sweep(id).map(|()| 0),
        Err(error) => return Err(error),
    };
    if let Some(init) = container.init() {
        let status = container.live_status();
        if !force && status != Status::Created {
            let status = format!("{status:?}").to_lowercase();
            return said(format!(
                "cannot delete container {id} that is not stopped: {status}"
            ));
        }
        kill::all(&container);
        let ended = cais_sys::pidfd::wait_end(init.as_fd(), PATIENCE).map_err(io("wait"))?;
        if !ended {
            return said("container init still running");
        }
    }
    let spec = container.spec()?;
    remove(context, &container, &spec)?;
    Ok(0)
}

fn has_own_pids(spec: &Spec) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces.any(|one| one.kind == NamespaceType::Pid && one.path.is_none())
}

/// Removes the control group and the facts of a container whose init has ended, and runs its poststop hooks.
pub fn remove(context: &Context, container: &Container, spec: &Spec) -> Result<()> {
    if let Ok(cgroup) = container.cgroup() {
        // The end of init has ended every process of its namespace; without one there may be processes left.
        if !has_own_pids(spec) && !cgroup.pids()?.is_empty() {
            cgroup.kill_all()?;
        }
        cgroup.remove()?;
    }
    container.forget()?;
    let Some(hooks) = &spec.hooks else {
        return Ok(());
    };
    let record = &container.record;
    let state = hooks::state(&record.id, Status::Stopped, 0, &record.bundle, spec);
    for hook in &hooks.poststop {
        if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &state) {
            context.log.warn(&error.to_string());
        }
    }
    Ok(())
}
