//! Which namespaces a specification makes and which it joins.

use std::os::fd::{AsFd, OwnedFd};

use cais_sys::process::namespace;
use rustix::fs::{Mode, OFlags};

use super::report::{Result, RuntimeError, during};
use crate::spec::{NamespaceType, Spec};

/// The bit of clone(2) and setns(2).
pub fn bit(kind: NamespaceType) -> u64 {
    match kind {
        NamespaceType::Pid => namespace::PID,
        NamespaceType::Network => namespace::NET,
        NamespaceType::Mount => namespace::MOUNT,
        NamespaceType::Ipc => namespace::IPC,
        NamespaceType::Uts => namespace::UTS,
        NamespaceType::User => namespace::USER,
        NamespaceType::Cgroup => namespace::CGROUP,
        NamespaceType::Time => namespace::TIME,
    }
}

/// The namespaces of a container.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Bits of those to be made.
    pub new: u64,
    /// Those to be joined, in the order that works: the user namespace gives the rights for the others.
    pub join: Vec<(u64, OwnedFd)>,
}

/// Order of joining.
const ORDER: [u64; 8] = [
    namespace::USER,
    namespace::PID,
    namespace::NET,
    namespace::IPC,
    namespace::UTS,
    namespace::CGROUP,
    namespace::TIME,
    namespace::MOUNT,
];

impl Namespaces {
    /// Reads a specification and opens what it joins; `netns` takes the place of the network namespace.
    pub fn plan(spec: &Spec, netns: Option<OwnedFd>) -> Result<Self> {
        let mut plan = Self::default();
        let linux = spec.linux.as_ref();
        let mut seen = 0;
        for wanted in linux
            .map(|linux| linux.namespaces.as_slice())
            .unwrap_or_default()
        {
            let bit = bit(wanted.kind);
            if seen & bit != 0 {
                return Err(RuntimeError::invalid(format!(
                    "malformed spec file: duplicated ns {:?}",
                    wanted.kind
                )));
            }
            seen |= bit;
            match &wanted.path {
                Some(path) if !path.as_os_str().is_empty() => {
                    let fd =
                        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                            .map_err(during(format!("namespace path {}", path.display())))?;
                    plan.join.push((bit, fd));
                }
                _ => plan.new |= bit,
            }
        }
        if let Some(netns) = netns {
            plan.new &= !namespace::NET;
            plan.join.retain(|(bit, _)| *bit != namespace::NET);
            plan.join.push((namespace::NET, netns));
        }
        plan.join
            .sort_by_key(|(bit, _)| ORDER.iter().position(|other| other == bit));
        Ok(plan)
    }

    /// All bits, made or joined.
    pub fn all(&self) -> u64 {
        self.join.iter().fold(self.new, |bits, (bit, _)| bits | bit)
    }

    /// Joins, in a new process. The pid namespace is joined by the maker, since it counts for children only.
    pub fn enter(&self) -> Result<()> {
        for (bit, fd) in self.join.iter().filter(|(bit, _)| *bit != namespace::PID) {
            cais_sys::process::join(fd.as_fd(), *bit).map_err(during("join namespace"))?;
        }
        Ok(())
    }

    /// The pid namespace that children are to be in.
    pub fn pid_to_join(&self) -> Option<&OwnedFd> {
        self.join
            .iter()
            .find(|(bit, _)| *bit == namespace::PID)
            .map(|(_, fd)| fd)
    }
}

/// Makes children of this process members of a pid namespace until it is dropped.
#[derive(Debug)]
pub struct ChildrenIn(Option<OwnedFd>);

impl ChildrenIn {
    /// Joins the namespace for children.
    pub fn namespace(fd: Option<&OwnedFd>) -> Result<Self> {
        let Some(fd) = fd else { return Ok(Self(None)) };
        let own = rustix::fs::open(
            "/proc/self/ns/pid",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(during("open own pid namespace"))?;
        cais_sys::process::join(fd.as_fd(), namespace::PID)
            .map_err(during("join pid namespace"))?;
        Ok(Self(Some(own)))
    }
}

impl Drop for ChildrenIn {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            let _ = cais_sys::process::join(own.as_fd(), namespace::PID);
        }
    }
}
