//! The root of a container: attached, entered, and its paths masked, made read-only and tuned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cais_sys::mount::{self, Attributes, attribute};
use cais_sys::process::namespace;
use cais_sys::{mntns, path_in_root};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::Rootfs;
use super::mounts::Making;
use super::namespaces::Namespaces;
use super::report::{Result, RuntimeError, during};
use crate::spec::{Linux, Spec};

/// PROC_SUPER_MAGIC.
const PROC_MAGIC: i64 = 0x9fa0;

/// The mount that becomes the root. It is private; what a directory of the host has mounted below gets the propagation of
/// `making` first.
pub fn tree(rootfs: &Rootfs, making: &Making<'_>) -> Result<OwnedFd> {
    let tree = match rootfs {
        Rootfs::Mount(tree) => tree.try_clone().map_err(during("dup"))?,
        Rootfs::Directory(path) => {
            let directory = rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(during(format!("open rootfs {}", path.display())))?;
            making
                .copy(directory.as_fd(), true)
                .map_err(during(format!("bind rootfs {}", path.display())))?
        }
    };
    let private = Attributes {
        propagation: attribute::PRIVATE,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), private, false, None)
        .map_err(during("make rootfs private"))?;
    Ok(tree)
}

/// Attaches the new root to this mount namespace. It lies over `/`, where no lookup of this process can see it.
pub fn attach(tree: BorrowedFd<'_>) -> Result<()> {
    mount::attach(tree, root()?.as_fd()).map_err(during("attach rootfs"))
}

/// Where the mounts of a container begin.
pub enum Beginning {
    /// A copy of the host's, with its old root when mounts in it are shared with the host, which must not see them unmounted.
    Host(Option<OwnedFd>),
    /// [`mntns::empty`].
    Empty(OwnedFd),
}

impl Beginning {
    /// Whether the mounts of a container can begin empty: its maker may do so, and runs nothing of the host's among them.
    pub fn may_be_empty(spec: &Spec, namespaces: &Namespaces) -> bool {
        let hooks = spec.hooks.as_ref();
        namespaces.new & namespace::MOUNT != 0
            && namespaces.all() & namespace::USER == 0
            && hooks.is_none_or(|hooks| !hooks.before_pivot() && hooks.create_container.is_empty())
    }

    /// The propagation that copies of the host's mounts must be given, so that nothing mounted in the container shows there
    /// unless that was asked for.
    pub fn propagation(&self, wanted: Option<&str>) -> u64 {
        match (self, wanted) {
            (Self::Host(_), _) | (_, Some("shared" | "rshared")) => 0,
            (_, Some("private" | "rprivate")) => attribute::PRIVATE,
            _ => attribute::SLAVE,
        }
    }

    /// Makes the attached root the root, and lets go of what it lies over.
    pub fn leave(&self, root: BorrowedFd<'_>) -> Result<()> {
        let old = match self {
            Self::Empty(_) => {
                return mntns::enter_root(root).map_err(during("enter rootfs"));
            }
            Self::Host(old) => old,
        };
        mntns::exchange_root(root).map_err(during("pivot_root"))?;
        if let Some(old) = old {
            rustix::process::fchdir(old).map_err(during("chdir to old root"))?;
            mount_change(
                ".",
                MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
            )
            .map_err(during("release old root"))?;
        }
        mntns::unmount_old_root().map_err(during("unmount old root"))
    }
}

/// Cuts this mount namespace off from the host's, so that nothing mounted here shows there. Where shared propagation is asked for
/// only the root mount is cut off, and the old root is answered, for [`Beginning::leave`].
pub fn isolate(wanted: Option<&str>) -> Result<Option<OwnedFd>> {
    let (propagation, old) = match wanted {
        Some("shared" | "rshared") => (MountPropagationFlags::PRIVATE, Some(root()?)),
        Some("private" | "rprivate") => (
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            None,
        ),
        _ => (
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
            None,
        ),
    };
    mount_change("/", propagation).map_err(during("cut off / from the host's mounts"))?;
    Ok(old)
}

fn root() -> Result<OwnedFd> {
    mntns::slash().map_err(during("open /"))
}

/// Opens a path of the container; a missing one is nothing to do.
fn open_existing(path: &Path) -> Result<Option<OwnedFd>> {
    match path_in_root::open(root()?.as_fd(), path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(during(path.display())(error)),
    }
}

/// Binds a path over itself, read-only and with all that is mounted below.
pub fn make_read_only(path: &Path) -> Result<()> {
    let Some(place) = open_existing(path)? else {
        return Ok(());
    };
    let step = || format!("readonly path {}", path.display());
    let copy = mount::copy(place.as_fd(), true).map_err(during(step()))?;
    let read_only = Attributes {
        set: attribute::READ_ONLY,
        ..Attributes::default()
    };
    mount::set_attributes(copy.as_fd(), read_only, true, None).map_err(during(step()))?;
    mount::attach(copy.as_fd(), place.as_fd()).map_err(during(step()))
}

/// Hides a path: a directory below an empty read-only tmpfs, anything else below `/dev/null`.
pub fn mask(path: &Path) -> Result<()> {
    let Some(place) = open_existing(path)? else {
        return Ok(());
    };
    let step = || format!("masked path {}", path.display());
    let kind = rustix::fs::fstat(&place).map_err(during(step()))?.st_mode;
    let cover = if FileType::from_raw_mode(kind) == FileType::Directory {
        mount::new(
            "tmpfs",
            Some("tmpfs"),
            &[("nr_inodes", Some("1")), ("size", Some("0"))],
            attribute::READ_ONLY,
        )
        .or_else(|_| mount::new("tmpfs", Some("tmpfs"), &[], attribute::READ_ONLY))
    } else {
        mount::copy(null()?.as_fd(), false)
    };
    mount::attach(cover.map_err(during(step()))?.as_fd(), place.as_fd()).map_err(during(step()))
}

/// The container's `/dev/null`, and nothing that only looks like it (CVE-2025-31133).
fn null() -> Result<OwnedFd> {
    let null = path_in_root::open(
        root()?.as_fd(),
        Path::new("/dev/null"),
        OFlags::PATH | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(during("open /dev/null"))?;
    let stat = rustix::fs::fstat(&null).map_err(during("stat /dev/null"))?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !device || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(RuntimeError::invalid(
            "/dev/null of the container is not the null device",
        ));
    }
    Ok(null)
}

/// Makes the root mount read-only, not what is mounted on it.
pub fn make_root_read_only() -> Result<()> {
    let read_only = Attributes {
        set: attribute::READ_ONLY,
        ..Attributes::default()
    };
    mount::set_attributes(root()?.as_fd(), read_only, false, None)
        .map_err(during("make rootfs read-only"))
}

/// Gives the root the propagation that was asked for.
pub fn set_propagation(wanted: Option<&str>) -> Result<()> {
    let propagation = match wanted {
        None | Some("") => return Ok(()),
        Some("shared" | "rshared") => attribute::SHARED,
        Some("slave" | "rslave") => attribute::SLAVE,
        Some("private" | "rprivate") => attribute::PRIVATE,
        Some("unbindable" | "runbindable") => attribute::UNBINDABLE,
        Some(other) => {
            return Err(RuntimeError::invalid(format!(
                "unknown rootfsPropagation {other:?}"
            )));
        }
    };
    let recursive = wanted.is_some_and(|text| text.starts_with('r'));
    let attributes = Attributes {
        propagation,
        ..Attributes::default()
    };
    mount::set_attributes(root()?.as_fd(), attributes, recursive, None)
        .map_err(during("rootfsPropagation"))
}

/// Sets kernel parameters of namespaces that the container has for itself.
pub fn write_sysctls(linux: &Linux, namespaces: u64) -> Result<()> {
    if linux.sysctl.is_empty() {
        return Ok(());
    }
    // A procfs of our own: the one in the container may be anything (CVE-2019-16884, CVE-2025-52881).
    let proc = mount::new("proc", Some("proc"), &[], 0).map_err(during("mount proc for sysctl"))?;
    for (name, value) in &linux.sysctl {
        check_sysctl(name, namespaces)?;
        let path = format!(
            "sys/{}",
            if name.contains('/') {
                name.clone()
            } else {
                name.replace('.', "/")
            }
        );
        let step = || format!("write sysctl key {name}");
        let file = path_in_root::open(
            proc.as_fd(),
            Path::new(&path),
            OFlags::WRONLY | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(during(step()))?;
        if rustix::fs::fstatfs(&file).map_err(during(step()))?.f_type != PROC_MAGIC {
            return Err(RuntimeError::invalid(format!("{name} is not on procfs")));
        }
        rustix::io::write(&file, value.as_bytes()).map_err(during(step()))?;
    }
    Ok(())
}

fn check_sysctl(name: &str, namespaces: u64) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    // Steps upwards would end at a key that no namespace has for itself.
    let odd = |step: &str| matches!(step, "" | "." | "..");
    if name.contains('/') && name.split('/').any(odd) {
        return Err(RuntimeError::invalid(format!(
            "sysctl {name:?} is not the name of a kernel parameter"
        )));
    }
    let dotted = if name.contains('/') {
        name.replace('.', "\u{1}")
            .replace('/', ".")
            .replace('\u{1}', "/")
    } else {
        name.to_owned()
    };
    let needs = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        namespace::IPC
    } else if dotted.starts_with("net.") {
        namespace::NET
    } else if matches!(dotted.as_str(), "kernel.domainname" | "kernel.hostname") {
        namespace::UTS
    } else {
        0
    };
    if needs == namespace::NET && namespaces & needs == 0 {
        return Err(RuntimeError::invalid(format!(
            "sysctl {name:?} not allowed in host network namespace"
        )));
    }
    if needs == 0 || namespaces & needs == 0 {
        return Err(RuntimeError::invalid(format!(
            "sysctl {name:?} is not in a separate kernel namespace"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2022_0811_sysctls_stay_in_the_namespaces_of_the_container() {
        let own = namespace::IPC | namespace::NET;
        for name in [
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/forwarding",
            "kernel.shmmax",
        ] {
            assert!(check_sysctl(name, own).is_ok(), "{name}");
            assert!(check_sysctl(name, 0).is_err(), "{name}");
        }
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "fs/mqueue/../../kernel/core_pattern",
            "net/../kernel/core_pattern",
            "net//../kernel/core_pattern",
        ] {
            assert!(check_sysctl(name, own).is_err(), "{name}");
        }
    }
}
