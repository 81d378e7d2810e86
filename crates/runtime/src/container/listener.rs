//! The program that answers the system calls which a filter passes on (config-linux.md, "The Container Process State").

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::hooks;
use super::report::{Result, RuntimeError, during};
use crate::spec::{LinuxSeccomp, Spec, State, Status};

/// A connection to it, made while the host's files are in sight, and what it will be told.
#[derive(Debug)]
pub struct Listener {
    connection: OwnedFd,
    message: Vec<u8>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: State,
}

/// Connects to `listenerPath` when a rule says `SCMP_ACT_NOTIFY`.
///
/// # Errors
/// Nobody listens, or the filter would stop the very call that hands the descriptor over.
pub fn connect(
    id: &str,
    spec: &Spec,
    bundle: &Path,
    filter: &LinuxSeccomp,
) -> Result<Option<Listener>> {
    let mut notified = filter
        .syscalls
        .iter()
        .filter(|rule| rule.action == "SCMP_ACT_NOTIFY")
        .peekable();
    if notified.peek().is_none() {
        return Ok(None);
    }
    if notified
        .flat_map(|rule| &rule.names)
        .any(|name| name == "sendmsg")
    {
        return Err(RuntimeError::invalid(
            "SCMP_ACT_NOTIFY cannot be used for the sendmsg syscall",
        ));
    }
    let path = filter
        .listener_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .ok_or_else(|| {
            RuntimeError::invalid("seccomp listenerPath is needed for SCMP_ACT_NOTIFY")
        })?;
    let connection = cais_sys::socket::connect(Path::new(path))
        .map_err(during(format!("connect to seccomp listener {path}")))?;
    // Our number as the host sees it: the host's procfs is still there.
    let pid = std::fs::read_link("/proc/self")
        .ok()
        .and_then(|link| link.to_str()?.parse().ok())
        .unwrap_or(0);
    let state = State {
        annotations: BTreeMap::clone(&spec.annotations),
        ..hooks::state(id, Status::Creating, pid, bundle, spec)
    };
    let message = serde_json::to_vec(&ProcessState {
        oci_version: crate::spec::VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: filter.listener_metadata.as_deref(),
        state,
    })
    .map_err(std::io::Error::from)
    .map_err(during("state"))?;
    Ok(Some(Listener {
        connection,
        message,
    }))
}

impl Listener {
    /// Hands the notification descriptor over.
    pub fn send(&self, notified: BorrowedFd<'_>) -> Result<()> {
        cais_sys::socket::send_all(self.connection.as_fd(), &self.message, &[notified])
            .map_err(during("send to seccomp listener"))
    }
}
