//! The processes of a group: listing, freezing, killing, and removing the group behind them.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::file::{Directory, value_of};
use super::hierarchy::Controllers;
use super::{Cgroup, CgroupError};

/// How long a group may take to freeze, empty or disappear.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks again, first after 50 µs, at last every 10 ms, until there is an answer or patience ends.
fn poll<T>(
    mut ask: impl FnMut() -> Result<Option<T>, CgroupError>,
) -> Result<Option<T>, CgroupError> {
    let began = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if began.elapsed() > PATIENCE {
            return Ok(None);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

impl Cgroup {
    /// All processes of the group and of groups below it.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        collect(&self.tracking(), &mut pids)?;
        Ok(pids)
    }

    /// Stops all processes until [`Cgroup::thaw`]; returns when they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets frozen processes run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Whether [`Cgroup::freeze`] is in force.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        if let Some(unified) = self.unified()
            && let Some(text) = unified.read_optional("cgroup.freeze")?
        {
            return Ok(text.trim() == "1");
        }
        let Some(freezer) = self.controller(Controllers::FREEZER) else {
            return Ok(false);
        };
        Ok(freezer
            .read_optional("freezer.state")?
            .is_some_and(|state| state.trim() != "THAWED"))
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        if let Some(unified) = self.unified() {
            match unified.write("cgroup.freeze", if frozen { "1" } else { "0" }) {
                Ok(()) => return wait_frozen(&unified, frozen),
                Err(CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let Some(freezer) = self.controller(Controllers::FREEZER) else {
            return Err(CgroupError::Unsupported {
                resource: "freezer".to_owned(),
                reason: "no freezer is mounted".to_owned(),
            });
        };
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        let done = poll(|| {
            // Writing again helps a freeze along that a fork has raced.
            freezer.write("freezer.state", wanted)?;
            Ok((freezer.read("freezer.state")?.trim() == wanted).then_some(()))
        })?;
        if done.is_none() {
            freezer.write("freezer.state", "THAWED")?;
            return Err(CgroupError::Busy(self.path()));
        }
        Ok(())
    }

    /// Kills all processes of the group and of groups below it; does not wait for them to be reaped.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(unified) = self.unified() {
            match unified.write("cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                Err(CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Frozen processes neither fork nor exit, so that the list is complete and no number is reused.
        let frozen = self.freeze().is_ok();
        let killed = self.pids().map(|pids| {
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                // Gone already is as good as killed.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        if frozen {
            self.thaw()?;
        }
        killed
    }

    /// Removes the group and what is below it, in every hierarchy. Waits (at most 5 s each) for processes that are on their
    /// way out; what is already gone is no error. Goes on after a failure and returns the first one.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut first = Ok(());
        for hierarchy in self.hierarchies.all() {
            let removed = remove(&Directory::new(hierarchy, &self.path));
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

fn wait_frozen(unified: &Directory<'_>, frozen: bool) -> Result<(), CgroupError> {
    let done = poll(|| {
        let now = value_of(&unified.read("cgroup.events")?, "frozen").unwrap_or(0) == 1;
        Ok((now == frozen).then_some(()))
    })?;
    if done.is_none() && frozen {
        unified.write("cgroup.freeze", "0")?;
    }
    done.ok_or_else(|| CgroupError::Busy(unified.host_path("")))
}

fn collect(directory: &Directory<'_>, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let Some(text) = directory.read_optional("cgroup.procs")? else {
        return Ok(());
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in directory.children()? {
        collect(&directory.at(&child), pids)?;
    }
    Ok(())
}

/// The first group below with processes right in it.
pub(super) fn first_populated(directory: &Directory<'_>) -> Result<Option<String>, CgroupError> {
    for child in directory.children()? {
        let below = directory.at(&child);
        if below
            .read_optional("cgroup.procs")?
            .is_some_and(|pids| !pids.is_empty())
        {
            return Ok(Some(child));
        }
        if let Some(found) = first_populated(&below)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn remove(directory: &Directory<'_>) -> Result<(), CgroupError> {
    let mut looked_below = false;
    let removed = poll(|| match directory.unlink() {
        Ok(()) | Err(Errno::NOENT) => Ok(Some(())),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {
            if !looked_below {
                looked_below = true;
                for child in directory.children()? {
                    remove(&directory.at(&child))?;
                }
            }
            Ok(None)
        }
        Err(errno) => Err(directory.failed(errno)),
    })?;
    removed.ok_or_else(|| CgroupError::Busy(directory.host_path("")))
}
