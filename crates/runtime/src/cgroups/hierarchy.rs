//! Which hierarchies this host has and where they are mounted, found once per process.
//!
//! Two small reads in the usual case: statfs(2) of `/sys/fs/cgroup` tells pure v2, `/proc/self/cgroup` names the v1
//! hierarchies. `mountinfo`, which grows with every container, is only read when one is not at its usual place.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};

use super::file::Directory;
use super::{CgroupError, MountPoint};

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: i64 = 0x6367_7270;
const CGROUP_MAGIC: i64 = 0x27_e0eb;

/// A set of v1 controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers(u16);

impl Controllers {
    pub(super) const CPU: Self = Self(1);
    pub(super) const CPUACCT: Self = Self(1 << 1);
    pub(super) const CPUSET: Self = Self(1 << 2);
    pub(super) const MEMORY: Self = Self(1 << 3);
    pub(super) const DEVICES: Self = Self(1 << 4);
    pub(super) const FREEZER: Self = Self(1 << 5);
    pub(super) const BLKIO: Self = Self(1 << 6);
    pub(super) const PIDS: Self = Self(1 << 7);
    pub(super) const HUGETLB: Self = Self(1 << 8);
    pub(super) const NET_CLS: Self = Self(1 << 9);
    pub(super) const NET_PRIO: Self = Self(1 << 10);
    pub(super) const RDMA: Self = Self(1 << 11);

    const NAMES: [(&'static str, Self); 12] = [
        ("cpu", Self::CPU),
        ("cpuacct", Self::CPUACCT),
        ("cpuset", Self::CPUSET),
        ("memory", Self::MEMORY),
        ("devices", Self::DEVICES),
        ("freezer", Self::FREEZER),
        ("blkio", Self::BLKIO),
        ("pids", Self::PIDS),
        ("hugetlb", Self::HUGETLB),
        ("net_cls", Self::NET_CLS),
        ("net_prio", Self::NET_PRIO),
        ("rdma", Self::RDMA),
    ];

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, one)| *one == self)
            .map_or("unknown", |(name, _)| name)
    }

    fn parse(list: &str) -> Self {
        let bits = list.split(',').filter_map(|name| {
            Self::NAMES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, one)| one.0)
        });
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) controllers: Controllers,
    /// As `/proc/self/cgroup` writes it: `cpu,cpuacct`, `name=systemd`, empty for v2.
    label: String,
    pub(super) mounted: PathBuf,
    pub(super) root: OwnedFd,
}

/// All that are mounted.
#[derive(Debug)]
pub(super) enum Hierarchies {
    V1 {
        controllers: Vec<Hierarchy>,
        unified: Option<Hierarchy>,
    },
    V2(Hierarchy),
}

impl Hierarchies {
    /// Every hierarchy a process has to join.
    pub(super) fn all(&self) -> impl Iterator<Item = &Hierarchy> {
        let (controllers, unified) = match self {
            Self::V1 {
                controllers,
                unified,
            } => (controllers.as_slice(), unified.as_ref()),
            Self::V2(root) => (&[][..], Some(root)),
        };
        controllers.iter().chain(unified)
    }

    pub(super) fn first(&self) -> &Hierarchy {
        match self {
            Self::V1 { controllers, .. } => &controllers[0],
            Self::V2(root) => root,
        }
    }
}

impl Hierarchy {
    pub(super) fn mount_point(&self, path: &str) -> MountPoint {
        let host_directory = PathBuf::from(Directory::new(self, path).host_path(""));
        if self.label.is_empty() {
            let below = self.mounted.strip_prefix(ROOT).unwrap_or(Path::new(""));
            let (name, options) = (below.display().to_string(), String::new());
            return MountPoint {
                name,
                kind: "cgroup2",
                options,
                host_directory,
                links: Vec::new(),
            };
        }
        let name = match self.label.strip_prefix("name=") {
            Some(name) => name.to_owned(),
            None => self.label.clone(),
        };
        let options = match self.label.strip_prefix("name=") {
            Some(_) => format!("none,{}", self.label),
            None => self.label.clone(),
        };
        let joint = name.contains(',');
        let links = name
            .split(',')
            .filter(|_| joint)
            .map(str::to_owned)
            .collect();
        MountPoint {
            name,
            kind: "cgroup",
            options,
            host_directory,
            links,
        }
    }
}

/// The hierarchies of this host.
pub(super) fn found() -> Result<&'static Hierarchies, CgroupError> {
    static FOUND: OnceLock<Hierarchies> = OnceLock::new();
    match FOUND.get() {
        Some(found) => Ok(found),
        None => {
            let found = detect()?;
            Ok(FOUND.get_or_init(|| found))
        }
    }
}

pub(super) fn detect() -> Result<Hierarchies, CgroupError> {
    if let Some(root) = open(Path::new(ROOT), CGROUP2_MAGIC) {
        let label = String::new();
        let controllers = Controllers::default();
        return Ok(Hierarchies::V2(Hierarchy {
            controllers,
            label,
            mounted: ROOT.into(),
            root,
        }));
    }
    let list = std::fs::read_to_string("/proc/self/cgroup").map_err(|_| CgroupError::NotMounted)?;
    let mut mounts = None;
    let mut controllers = Vec::new();
    let mut unified = None;
    for line in list.lines() {
        let Some(label) = line.split(':').nth(1) else {
            continue;
        };
        let Some(found) = locate(label, &mut mounts) else {
            continue;
        };
        if label.is_empty() {
            unified = Some(found);
        } else {
            controllers.push(found);
        }
    }
    if controllers.is_empty() {
        return Err(CgroupError::NotMounted);
    }
    Ok(Hierarchies::V1 {
        controllers,
        unified,
    })
}

/// Opens a hierarchy at its usual place, else where `mountinfo` says. One that is mounted nowhere is not used.
fn locate(label: &str, mounts: &mut Option<String>) -> Option<Hierarchy> {
    let (name, magic) = match label {
        "" => ("unified", CGROUP2_MAGIC),
        other => (other.strip_prefix("name=").unwrap_or(other), CGROUP_MAGIC),
    };
    let usual = Path::new(ROOT).join(name);
    let (mounted, root) = match open(&usual, magic) {
        Some(root) => (usual, root),
        None => {
            let mounts = mounts.get_or_insert_with(|| {
                std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
            });
            let mounted = mounted_at(mounts, label)?;
            let root = open(&mounted, magic)?;
            (mounted, root)
        }
    };
    let controllers = Controllers::parse(label);
    Some(Hierarchy {
        controllers,
        label: label.to_owned(),
        mounted,
        root,
    })
}

fn open(path: &Path, magic: i64) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).ok()?;
    let found = fstatfs(&root).ok()?.f_type;
    (found as i64 == magic).then_some(root)
}

/// Finds a hierarchy in the text of proc_pid_mountinfo(5).
pub(super) fn mounted_at(mountinfo: &str, label: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, at) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let same = match label {
            "" => kind == "cgroup2",
            _ => {
                kind == "cgroup"
                    && label
                        .split(',')
                        .all(|one| options.split(',').any(|option| option == one))
            }
        };
        (same && root == "/").then(|| PathBuf::from(at.replace("\\040", " ")))
    })
}
