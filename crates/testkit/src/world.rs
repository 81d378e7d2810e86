//! A small world of network namespaces: a host, a neighbour on its link, and a machine behind that neighbour, which routes.
//! The host reaches both by IPv4 and IPv6.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use anyhow::{Result, ensure};
use cais_sys::netns;

/// A network namespace with `lo` up.
#[derive(Debug)]
pub struct Space(OwnedFd);

impl Space {
    /// A new one.
    ///
    /// # Errors
    /// Those of unshare(2).
    pub fn new() -> Result<Self> {
        let made = thread::scope(|scope| {
            let made = scope.spawn(|| {
                netns::unshare()?;
                netns::bring_up_loopback()?;
                netns::current()
            });
            made.join()
        });
        match made {
            Ok(space) => Ok(Self(space?)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// One that is there already.
    pub fn of(netns: OwnedFd) -> Self {
        Self(netns)
    }

    /// Runs on a thread in this namespace.
    ///
    /// # Panics
    /// When the namespace cannot be entered; with the panic of `body`.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let ran = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                netns::enter(self.0.as_fd()).expect("a namespace of the test's own");
                body()
            });
            thread.join()
        });
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs ip(8) in this namespace, with words apart by spaces.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.run("ip", &words.split_whitespace().collect::<Vec<_>>())
            .map(drop)
    }

    /// Runs a program in this namespace and answers what it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let output = self.inside(|| Command::new(program).args(words).output())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A path to it, for programs that take one.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// Where the daemon runs.
    pub host: Space,
    /// On the host's link.
    pub neighbour: Space,
    /// Behind the neighbour.
    pub far: Space,
}

impl World {
    /// The host's addresses on its link.
    pub const HOST: [&str; 2] = ["192.0.2.1", "fd00:2::1"];
    /// The neighbour's there.
    pub const NEIGHBOUR: [&str; 2] = ["192.0.2.2", "fd00:2::2"];
    /// Those of the machine behind it.
    pub const FAR: [&str; 2] = ["198.51.100.2", "fd00:51::2"];

    /// Makes the namespaces and their links.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn new() -> Result<Self> {
        let world = Self {
            host: Space::new()?,
            neighbour: Space::new()?,
            far: Space::new()?,
        };
        let Self {
            host,
            neighbour,
            far,
        } = &world;
        host.ip(&format!(
            "link add wire0 type veth peer name wire0 netns {}",
            neighbour.path()
        ))?;
        neighbour.ip(&format!(
            "link add wire1 type veth peer name wire0 netns {}",
            far.path()
        ))?;
        for (space, interface, addresses) in [
            (host, "wire0", ["192.0.2.1/24", "fd00:2::1/64"]),
            (neighbour, "wire0", ["192.0.2.2/24", "fd00:2::2/64"]),
            (neighbour, "wire1", ["198.51.100.1/24", "fd00:51::1/64"]),
            (far, "wire0", ["198.51.100.2/24", "fd00:51::2/64"]),
        ] {
            space.ip(&format!("addr add {} dev {interface}", addresses[0]))?;
            space.ip(&format!("addr add {} dev {interface} nodad", addresses[1]))?;
            space.ip(&format!("link set {interface} up"))?;
        }
        host.ip("route add default via 192.0.2.2")?;
        host.ip("-6 route add default via fd00:2::2")?;
        far.ip("route add default via 198.51.100.1")?;
        far.ip("-6 route add default via fd00:51::1")?;
        neighbour.ip("route add 10.0.0.0/8 via 192.0.2.1")?;
        neighbour.ip("-6 route add fd09::/16 via fd00:2::1")?;
        neighbour.inside(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })?;
        Ok(world)
    }
}
