//! Overlay mounts that are attached nowhere: they live as long as their descriptor and no other process sees them.
//!
//! Linux 6.7 takes every lower layer by itself. Older kernels take one list: 255 bytes of it through fsconfig(2), a page of
//! it through mount(2), so that the list names descriptors and never paths, whatever is in them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    open_tree,
};

use crate::{mntns, netns};

/// fsconfig(2) takes values shorter than this, bytes.
const VALUE_LIMIT: usize = 256;

/// Options of every mount. An index would tie the upper layer to the mount it was first used with, and moved metadata would
/// leave it without the files' contents.
const OPTIONS: [(&str, &str); 2] = [("index", "off"), ("metacopy", "off")];

/// The option of mounts that are not durable.
const VOLATILE: &str = "volatile";

/// Set once the kernel has refused layers one by one and taken them as a list.
static LIST_ONLY: AtomicBool = AtomicBool::new(false);

/// The writable layer of a mount.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// What is written.
    pub files: &'a Path,
    /// The kernel's own, on the same file system.
    pub work: &'a Path,
    /// Whether fsync(2) reaches the disk. Then the end of the mount, too, waits until the whole file system below is on the
    /// disk, whoever wrote to it. What nobody would miss after a power cut is better without (overlayfs.rst, "Volatile
    /// mount").
    pub durable: bool,
}

impl Upper<'_> {
    /// Takes away the mark by which the kernel refuses a layer whose last mount was not durable: who mounts it again knows
    /// that the machine has not gone down since, or has no more need of what it held.
    fn unmark(&self) {
        let incompat = self.work.join("work/incompat");
        let volatile = incompat.join("volatile");
        if rustix::fs::unlinkat(CWD, volatile.join("dirty"), AtFlags::empty()).is_ok() {
            for directory in [volatile, incompat] {
                let _ = rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// Mounts `lower`, topmost first, and on top of it, when given, the writable `upper`; without it the mount is read-only and
/// wants two layers at least. The error names the layer that is at fault where that is known.
pub fn mount(lower: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    if let Some(upper) = &upper {
        upper.unmark();
    }
    if !LIST_ONLY.load(Ordering::Relaxed) {
        match one_by_one(lower, upper) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            result => return result,
        }
    }
    let mount = list(lower, upper)?;
    LIST_ONLY.store(true, Ordering::Relaxed);
    Ok(mount)
}

/// `lowerdir+`, Linux 6.7.
fn one_by_one(lower: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    for layer in lower {
        set_path(context, "lowerdir+", layer)?;
    }
    if let Some(upper) = upper {
        set_path(context, "upperdir", upper.files)?;
        set_path(context, "workdir", upper.work)?;
    }
    finish(context, upper.map(|upper| upper.durable))
}

fn set_path(context: BorrowedFd<'_>, option: &str, path: &Path) -> io::Result<()> {
    let failed = |errno: Errno| named(option, path, errno);
    if path.as_os_str().len() < VALUE_LIMIT {
        return fsconfig_set_string(context, option, path).map_err(failed);
    }
    let directory = open(path).map_err(failed)?;
    let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fsconfig_set_string(context, option, short).map_err(failed)
}

/// `durable` is that of [`Upper`]; nothing for a mount that is read-only.
fn finish(context: BorrowedFd<'_>, durable: Option<bool>) -> io::Result<OwnedFd> {
    for (option, value) in OPTIONS {
        // A kernel without the feature has no such option, and then it is off.
        let _ = fsconfig_set_string(context, option, value);
    }
    if durable == Some(false) {
        // Linux 5.10.
        let _ = fsconfig_set_flag(context, VOLATILE);
    }
    fsconfig_create(context)?;
    let attributes = match durable {
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Some(_) => MountAttrFlags::empty(),
    };
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// `lowerdir` for older kernels, in the shortest of three ways.
fn list(lower: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    let layers = Layers::open(lower, upper)?;
    if layers.lower("/proc/self/fd/").len() < VALUE_LIMIT {
        return layers.configure("/proc/self/fd/");
    }
    let in_thread = std::thread::scope(|scope| {
        let thread = scope.spawn(|| long_list(lower, upper, &layers));
        thread.join()
    });
    in_thread.unwrap_or_else(|_| Err(io::Error::other("the thread that mounts an overlay failed")))
}

/// Runs in a thread of its own, which leaves the process's working directory and, at need, its mounts.
fn long_list(lower: &[PathBuf], upper: Option<Upper<'_>>, layers: &Layers) -> io::Result<OwnedFd> {
    netns::unshare_directory()?;
    if layers.lower("").len() < VALUE_LIMIT {
        rustix::process::chdir("/proc/self/fd")?;
        return layers.configure("");
    }
    mntns::unshare()?;
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", propagation)?;
    // Opened again: a layer has to lie on a mount of the namespace that the call is made in.
    let place = lower.first().ok_or(io::ErrorKind::InvalidInput)?;
    Layers::open(lower, upper)?.mount_at(place)
}

/// The directories of a mount, open.
struct Layers {
    lower: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
    durable: bool,
}

impl Layers {
    fn open(lower: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<Self> {
        let directory =
            |option, path: &Path| open(path).map_err(|errno| named(option, path, errno));
        let lower = lower.iter().map(|path| directory("lowerdir", path));
        let durable = upper.is_some_and(|upper| upper.durable);
        let upper = upper.map(|upper| {
            let files = directory("upperdir", upper.files)?;
            Ok::<_, io::Error>((files, directory("workdir", upper.work)?))
        });
        Ok(Self {
            lower: lower.collect::<io::Result<_>>()?,
            upper: upper.transpose()?,
            durable,
        })
    }

    /// The value of `lowerdir`, with `prefix` before every descriptor's number.
    fn lower(&self, prefix: &str) -> String {
        let names = self
            .lower
            .iter()
            .map(|layer| format!("{prefix}{}", layer.as_raw_fd()));
        names.collect::<Vec<_>>().join(":")
    }

    fn options(&self, prefix: &str) -> Vec<(&'static str, String)> {
        let mut options = vec![("lowerdir", self.lower(prefix))];
        if let Some((upper, work)) = &self.upper {
            options.push(("upperdir", format!("{prefix}{}", upper.as_raw_fd())));
            options.push(("workdir", format!("{prefix}{}", work.as_raw_fd())));
        }
        options
    }

    fn configure(&self, prefix: &str) -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        for (option, value) in self.options(prefix) {
            fsconfig_set_string(context, option, value)?;
        }
        finish(context, self.upper.as_ref().map(|_| self.durable))
    }

    /// Mounts at a place of the calling thread's own mount namespace and takes a detached copy of the mount.
    fn mount_at(&self, place: &Path) -> io::Result<OwnedFd> {
        let options = self.options("/proc/self/fd/").into_iter();
        let fixed = OPTIONS.map(|(option, value)| (option, value.to_owned()));
        let options = options.chain(fixed);
        let mut data: Vec<String> = options
            .map(|(option, value)| format!("{option}={value}"))
            .collect();
        if self.upper.is_some() && !self.durable {
            data.push(VOLATILE.to_owned());
        }
        let data = std::ffi::CString::new(data.join(","))?;
        let flags = match self.upper {
            Some(_) => MountFlags::empty(),
            None => MountFlags::RDONLY,
        };
        rustix::mount::mount("overlay", place, "overlay", flags, Some(&*data))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, place, flags)?)
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn named(option: &str, path: &Path, errno: Errno) -> io::Error {
    let cause = io::Error::from(errno);
    let text = format!("overlay {option} {}: {cause}", path.display());
    io::Error::new(cause.kind(), text)
}

#[cfg(test)]
mod tests;
