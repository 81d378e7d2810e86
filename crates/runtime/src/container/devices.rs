//! `/dev`: the default devices, those of the specification, the usual links, and the terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cais_sys::{mount, path_in_root};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;

use super::report::{Result, RuntimeError, during};
use crate::spec::{ConsoleSize, Linux, LinuxDevice, Mount};

/// Devices every container has: name, major, minor (config-linux.md, "Default Devices").
const DEFAULT: [(&str, i64, i64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links every container has (runtime-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
];

/// Whether `/dev` is the container's own: in a directory of the host that is bound there nothing is made or replaced.
pub fn are_wanted(mounts: &[Mount]) -> bool {
    let bound = |mount: &Mount| {
        mount.destination == Path::new("/dev")
            && (mount.kind.as_deref() == Some("bind")
                || mount.options.iter().any(|option| option.ends_with("bind")))
    };
    !mounts.iter().any(bound)
}

/// Makes devices and links below the root.
pub fn make(root: BorrowedFd<'_>, linux: &Linux, user_namespace: bool) -> Result<()> {
    let dev = path_in_root::directory(root, Path::new("/dev")).map_err(during("open /dev"))?;
    let mask = rustix::process::umask(Mode::empty());
    let made = all(root, dev.as_fd(), linux, user_namespace);
    rustix::process::umask(mask);
    made
}

fn all(
    root: BorrowedFd<'_>,
    dev: BorrowedFd<'_>,
    linux: &Linux,
    user_namespace: bool,
) -> Result<()> {
    for (name, major, minor) in DEFAULT {
        let path = PathBuf::from("/dev").join(name);
        if linux.devices.iter().any(|device| device.path == path) {
            continue;
        }
        let device = LinuxDevice {
            path,
            kind: "c".to_owned(),
            major,
            minor,
            file_mode: Some(0o666),
            ..LinuxDevice::default()
        };
        node(dev, Path::new(name), &device, user_namespace)?;
    }
    for device in &linux.devices {
        let name = device
            .path
            .strip_prefix("/dev")
            .ok()
            .filter(|name| name.components().count() == 1);
        match name {
            Some(name) => node(dev, name, device, user_namespace)?,
            None => {
                let (parent, name) = device
                    .path
                    .parent()
                    .zip(device.path.file_name())
                    .ok_or_else(|| {
                        RuntimeError::invalid(format!(
                            "invalid device path {}",
                            device.path.display()
                        ))
                    })?;
                let parent =
                    path_in_root::directory(root, parent).map_err(during(device.path.display()))?;
                node(parent.as_fd(), Path::new(name), device, user_namespace)?;
            }
        }
    }
    for (target, name) in LINKS {
        link(dev, target, name)?;
    }
    // A devpts of its own has its own ptmx.
    if rustix::fs::statat(dev, "pts/ptmx", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        let _ = rustix::fs::unlinkat(dev, "ptmx", AtFlags::empty());
        link(dev, "pts/ptmx", "ptmx")?;
    }
    Ok(())
}

fn link(dev: BorrowedFd<'_>, target: &str, name: &str) -> Result<()> {
    match rustix::fs::symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(during(format!("symlink /dev/{name}"))(errno)),
    }
}

fn node(
    parent: BorrowedFd<'_>,
    name: &Path,
    device: &LinuxDevice,
    user_namespace: bool,
) -> Result<()> {
    let step = || format!("device {}", device.path.display());
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(RuntimeError::invalid(format!(
                "{}: unknown device type {other:?}",
                step()
            )));
        }
    };
    if user_namespace {
        return bind(parent, name, device);
    }
    let number = |value: i64| {
        u32::try_from(value)
            .map_err(|_| RuntimeError::invalid(format!("{}: invalid number", step())))
    };
    let device_number = makedev(number(device.major)?, number(device.minor)?);
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match rustix::fs::mknodat(parent, name, kind, mode, device_number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            replace(parent, name, (kind, mode, device_number)).map_err(during(step()))?
        }
        Err(Errno::PERM) => return bind(parent, name, device),
        Err(errno) => return Err(during(step())(errno)),
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(during(step()))?;
    }
    Ok(())
}

/// What the image has in the place of a device is no device of ours, unless it is the same one.
fn replace(
    parent: BorrowedFd<'_>,
    name: &Path,
    (kind, mode, number): (FileType, Mode, u64),
) -> rustix::io::Result<()> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == number {
        return Ok(());
    }
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    rustix::fs::mknodat(parent, name, kind, mode, number)
}

/// Where devices cannot be made (user namespaces) the host's is bound.
fn bind(parent: BorrowedFd<'_>, name: &Path, device: &LinuxDevice) -> Result<()> {
    let step = || format!("bind device {}", device.path.display());
    let source = rustix::fs::open(&device.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(during(step()))?;
    let create =
        OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let _ = rustix::fs::openat(parent, name, create, Mode::from_raw_mode(0o600));
    let place = rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(during(step()))?;
    let copy = mount::copy(source.as_fd(), false).map_err(during(step()))?;
    mount::attach(copy.as_fd(), place.as_fd()).map_err(during(step()))
}

/// Opens a terminal of the container's devpts and binds it to `/dev/console`; answers (controller, terminal).
pub fn console(root: BorrowedFd<'_>, size: Option<ConsoleSize>) -> Result<(OwnedFd, OwnedFd)> {
    let pts = path_in_root::open(
        root,
        Path::new("/dev/pts"),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .map_err(during("open /dev/pts"))?;
    let (controller, terminal) =
        cais_sys::pty::open_in(pts.as_fd()).map_err(during("open terminal"))?;
    if let Some(size) = size {
        cais_sys::pty::set_size(controller.as_fd(), size.height, size.width)
            .map_err(during("terminal size"))?;
    }
    let place =
        path_in_root::file(root, Path::new("/dev/console")).map_err(during("make /dev/console"))?;
    let copy = mount::copy(terminal.as_fd(), false).map_err(during("bind /dev/console"))?;
    mount::attach(copy.as_fd(), place.as_fd()).map_err(during("bind /dev/console"))?;
    Ok((controller, terminal))
}
