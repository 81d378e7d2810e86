//! Capability sets: names and numbers, Docker's defaults, `--cap-add` and `--cap-drop`, and putting all five sets on the
//! calling process in the order the kernel wants.

use std::fmt;
use std::io;

use crate::spec::LinuxCapabilities;

/// All names in the order of their numbers (capabilities(7)).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What Docker gives a container unless told otherwise.
pub const DOCKER_DEFAULT: Capabilities = Capabilities(
    1 | 1 << 1
        | 1 << 3
        | 1 << 4
        | 1 << 5
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 10
        | 1 << 13
        | 1 << 18
        | 1 << 27
        | 1 << 29
        | 1 << 31,
);

/// A set of capabilities, bit n for number n.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

/// A name in `--cap-add` or `--cap-drop` that is not a capability.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CapAdd/CapDrop: unknown capability: \"{0}\"")]
pub struct UnknownCapability(pub String);

/// The five sets of a process as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Limit for all the process and its children will ever have.
    pub bounding: Capabilities,
    /// In force now.
    pub effective: Capabilities,
    /// Kept over execve(2) by files that say so.
    pub inheritable: Capabilities,
    /// What the process may put in force.
    pub permitted: Capabilities,
    /// Kept over execve(2) of ordinary files.
    pub ambient: Capabilities,
}

impl Capabilities {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// All capabilities this program knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// Makes a set from the kernel's bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Members of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Members of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of this set that are not in the other.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a capability is in the set, by its full name.
    pub fn contains(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// The members' full names, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| *name)
    }

    /// The members' full names as the OCI specification wants them.
    pub fn to_names(self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    /// Reads names (case and the `CAP_` prefix do not matter, `ALL` is all); unknown ones come back beside the set, to be
    /// warned about and ignored (config.md, capabilities).
    pub fn parse<S: AsRef<str>>(names: &[S]) -> (Self, Vec<String>) {
        let mut set = Self::NONE;
        let mut unknown = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            match one(name) {
                Some(known) => set = set.union(known),
                None => unknown.push(name.to_owned()),
            }
        }
        (set, unknown)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

/// The number of a capability, by its name in any case, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let short = strip_prefix(name);
    NAMES
        .iter()
        .position(|known| known["CAP_".len()..].eq_ignore_ascii_case(short))
        .map(|n| n as u32)
}

fn strip_prefix(name: &str) -> &str {
    match name.split_at_checked(4) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("CAP_") => rest,
        _ => name,
    }
}

fn one(name: &str) -> Option<Capabilities> {
    if strip_prefix(name).eq_ignore_ascii_case("ALL") {
        return Some(Capabilities::ALL);
    }
    number(name).map(|number| Capabilities(1 << number))
}

/// The set that `docker run` gives: everything for `--privileged`; all but the dropped for `--cap-add ALL`; only the added
/// for `--cap-drop ALL`; else the defaults without the dropped, with the added (a name in both is in).
///
/// Unknown names are an error, as in Docker. The answer is not yet limited to what this host can give: see
/// [`available`].
pub fn for_docker<S: AsRef<str>>(
    privileged: bool,
    add: &[S],
    drop: &[S],
) -> Result<Capabilities, UnknownCapability> {
    let parse = |names: &[S]| match Capabilities::parse(names) {
        (set, unknown) if unknown.is_empty() => Ok(set),
        (_, unknown) => Err(UnknownCapability(
            unknown.into_iter().next().unwrap_or_default(),
        )),
    };
    let all = |names: &[S]| {
        names
            .iter()
            .any(|name| strip_prefix(name.as_ref()).eq_ignore_ascii_case("ALL"))
    };
    let (added, dropped) = (parse(add)?, parse(drop)?);
    Ok(if privileged {
        Capabilities::ALL
    } else if all(add) {
        let dropped = if all(drop) {
            Capabilities::NONE
        } else {
            dropped
        };
        Capabilities::ALL.difference(dropped)
    } else if all(drop) {
        added
    } else {
        DOCKER_DEFAULT.difference(dropped).union(added)
    })
}

/// What this process may give to others: its own bounding set.
pub fn available() -> io::Result<Capabilities> {
    let mut bits = 0;
    for number in 0..NAMES.len() as u32 {
        if cais_sys::capability::in_bounding_set(number)? {
            bits |= 1 << number;
        }
    }
    Ok(Capabilities(bits))
}

impl CapabilitySets {
    /// The same set as bounding, effective and permitted, nothing inherited: what Docker asks for.
    pub fn docker(set: Capabilities) -> Self {
        Self {
            bounding: set,
            effective: set,
            permitted: set,
            ..Self::default()
        }
    }

    /// Reads an OCI description; unknown names come back beside the sets, to be warned about.
    pub fn parse(capabilities: &LinuxCapabilities) -> (Self, Vec<String>) {
        let mut unknown = Vec::new();
        let mut read = |names: &[String]| {
            let (set, mut strange) = Capabilities::parse(names);
            unknown.append(&mut strange);
            set
        };
        let sets = Self {
            bounding: read(&capabilities.bounding),
            effective: read(&capabilities.effective),
            inheritable: read(&capabilities.inheritable),
            permitted: read(&capabilities.permitted),
            ambient: read(&capabilities.ambient),
        };
        unknown.sort_unstable();
        unknown.dedup();
        (sets, unknown)
    }

    /// As an OCI description.
    pub fn to_spec(&self) -> LinuxCapabilities {
        LinuxCapabilities {
            bounding: self.bounding.to_names(),
            effective: self.effective.to_names(),
            inheritable: self.inheritable.to_names(),
            permitted: self.permitted.to_names(),
            ambient: self.ambient.to_names(),
        }
    }

    /// Leaves out what this host cannot give, and what the kernel would refuse: effective and ambient beyond permitted,
    /// ambient beyond inheritable. Returns what was asked for and is not there, to be warned about.
    pub fn limit_to(&mut self, available: Capabilities) -> Capabilities {
        let asked = [
            self.bounding,
            self.effective,
            self.inheritable,
            self.permitted,
            self.ambient,
        ]
        .into_iter()
        .fold(Capabilities::NONE, Capabilities::union);
        self.bounding = self.bounding.intersection(available);
        self.permitted = self.permitted.intersection(available);
        self.inheritable = self.inheritable.intersection(available);
        self.effective = self.effective.intersection(self.permitted);
        self.ambient = self
            .ambient
            .intersection(self.permitted)
            .intersection(self.inheritable);
        asked.difference(available)
    }

    /// First half, before the user id changes: shrinks the bounding set (needs `CAP_SETPCAP`) and keeps the permitted set
    /// over setuid(2).
    pub fn apply_before_setuid(&self) -> io::Result<()> {
        for number in 0..64 {
            if self.bounding.0 & (1 << number) != 0 {
                continue;
            }
            // Past the kernel's last capability there is nothing to drop.
            match cais_sys::capability::in_bounding_set(number) {
                Ok(true) => cais_sys::capability::drop_from_bounding_set(number)?,
                Ok(false) => {}
                Err(_) => break,
            }
        }
        cais_sys::capability::set_keep(true)
    }

    /// Second half, after the user id changed: the process's own sets, then the ambient one.
    pub fn apply_after_setuid(&self) -> io::Result<()> {
        use cais_sys::capability::{
            ProcessSets, clear_ambient, raise_ambient, set_keep, set_process,
        };
        set_process(ProcessSets {
            effective: self.effective.0,
            permitted: self.permitted.0,
            inheritable: self.inheritable.0,
        })?;
        set_keep(false)?;
        clear_ambient()?;
        for number in (0..64).filter(|number| self.ambient.0 & (1 << number) != 0) {
            raise_ambient(number)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Capabilities {
        let (set, unknown) = Capabilities::parse(names);
        assert_eq!(unknown, Vec::<String>::new());
        set
    }

    #[test]
    fn docker_default_has_the_fourteen() {
        let names: Vec<_> = DOCKER_DEFAULT.names().collect();
        assert_eq!(
            names,
            [
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_SETGID",
                "CAP_SETUID",
                "CAP_SETPCAP",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SYS_CHROOT",
                "CAP_MKNOD",
                "CAP_AUDIT_WRITE",
                "CAP_SETFCAP"
            ]
        );
    }

    #[test]
    fn names_are_read_in_any_form_and_unknown_ones_returned() {
        let (read, unknown) =
            Capabilities::parse(&["net_admin", "CAP_NET_ADMIN", "Cap_Bpf", "CAP_X", "é"]);
        assert_eq!(read, set(&["CAP_NET_ADMIN", "CAP_BPF"]));
        assert_eq!(unknown, ["CAP_X", "é"]);
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("syslog"), Some(34));
    }

    #[test]
    fn add_and_drop_follow_docker() {
        let docker = |add: &[&str], drop: &[&str]| for_docker(false, add, drop);
        assert_eq!(docker(&[], &[]), Ok(DOCKER_DEFAULT));
        assert_eq!(
            docker(&["ALL"], &["sys_admin"]),
            Ok(Capabilities::ALL.difference(set(&["SYS_ADMIN"])))
        );
        assert_eq!(docker(&["chown"], &["ALL"]), Ok(set(&["CHOWN"])));
        assert_eq!(docker(&[], &["all"]), Ok(Capabilities::NONE));
        assert_eq!(docker(&["ALL"], &["ALL"]), Ok(Capabilities::ALL));
        let expected = DOCKER_DEFAULT
            .difference(set(&["KILL"]))
            .union(set(&["SYS_TIME"]));
        assert_eq!(docker(&["SYS_TIME"], &["CAP_KILL"]), Ok(expected));
        assert_eq!(
            docker(&["NOPE"], &[]),
            Err(UnknownCapability("NOPE".to_owned()))
        );
        assert_eq!(
            for_docker(true, &["SYS_TIME"], &["KILL"]),
            Ok(Capabilities::ALL)
        );
    }

    #[test]
    fn sets_are_limited_to_what_the_kernel_accepts() {
        let mut sets = CapabilitySets {
            ambient: set(&["KILL", "CHOWN"]),
            inheritable: set(&["KILL"]),
            ..CapabilitySets::docker(set(&["KILL", "CHOWN", "SYS_RESOURCE"]))
        };
        let missing = sets.limit_to(set(&["KILL", "CHOWN"]));
        assert_eq!(missing, set(&["SYS_RESOURCE"]));
        assert_eq!(sets.effective, set(&["KILL", "CHOWN"]));
        assert_eq!(sets.ambient, set(&["KILL"]));
    }

    /// Applies sets in a process of its own, as user 1000, and gives its `CapX` lines.
    #[test]
    #[ignore = "started by the test of a real process"]
    fn child() {
        let mut sets = CapabilitySets {
            ambient: set(&["KILL"]),
            inheritable: set(&["KILL"]),
            ..CapabilitySets::docker(set(&["KILL", "CHOWN"]))
        };
        assert!(sets.limit_to(available().unwrap()).is_empty());
        sets.apply_before_setuid().unwrap();
        let user = rustix::process::Uid::from_raw(1000);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        sets.apply_after_setuid().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let both = set(&["KILL", "CHOWN"]).bits();
        let kill = set(&["KILL"]).bits();
        let all = ["CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(line);
        assert_eq!(all, [both, both, both, kill, kill]);
    }

    #[test]
    fn sets_survive_a_change_of_user() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--test-threads=1",
                "capabilities::tests::child",
            ])
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn own_bounding_set_is_what_the_kernel_says() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .unwrap();
        let bits = u64::from_str_radix(line.trim(), 16).unwrap();
        assert_eq!(
            available().unwrap(),
            Capabilities::from_bits(bits).intersection(Capabilities::ALL)
        );
    }
}
