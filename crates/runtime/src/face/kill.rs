//! `kill`: a signal for init, or for all processes.

use std::os::fd::AsFd as _;

use super::arguments::{Arguments, Flag, Order};
use super::store::Container;
use super::{Context, Result, io, said, signal};

const FLAGS: &[Flag] = &[Flag(&["all", "a"], false)];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    let (id, name) = match arguments.words.as_slice() {
        [id] => (id, "SIGTERM"),
        [id, name] => (id, name.as_str()),
        [] => return said("container id cannot be empty"),
        _ => return said("kill takes a container's id and a signal"),
    };
    let number = signal::parse(name)?;
    let container = context.store.load(id)?;
    if arguments.is_set("all") {
        signal_all(&container, number)?;
        return Ok(0);
    }
    let Some(init) = container.init() else {
        return said("container not running");
    };
    cais_sys::pidfd::send_signal(init.as_fd(), number).map_err(io("unable to signal init"))?;
    Ok(0)
}

/// Sends a signal to every process of the container; that there is none is no error.
fn signal_all(container: &Container, number: i32) -> Result<()> {
    let Ok(cgroup) = container.cgroup() else {
        return Ok(());
    };
    if number == signal::KILL {
        return Ok(cgroup.kill_all()?);
    }
    // Frozen processes neither fork nor end, so that the list is complete and no number is used again.
    let frozen = !cgroup.is_frozen()? && cgroup.freeze().is_ok();
    let pids = cgroup.pids();
    for pid in pids.iter().flatten() {
        let _ = cais_sys::signals::kill(*pid, number);
    }
    if frozen {
        cgroup.thaw()?;
    }
    pids?;
    Ok(())
}

/// Ends every process of the container, as well as it can be done.
pub fn all(container: &Container) {
    if let Some(init) = container.init() {
        let _ = cais_sys::pidfd::send_signal(init.as_fd(), signal::KILL);
    }
    let _ = signal_all(container, signal::KILL);
}
