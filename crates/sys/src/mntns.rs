//! Mount namespaces (mount_namespaces(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::mount::{self, attribute};
use crate::process::{self, namespace};

/// Moves the calling thread into a copy of its mount namespace, and out of the shared root and working directory.
pub fn unshare() -> io::Result<()> {
    // SAFETY: the descriptor table stays shared; only mounts and directories of this thread become its own.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    Ok(())
}

/// A mount namespace whose root is an empty directory that nobody can write to. A container's mounts are copied from it in the
/// same short time however many the host has, and with nothing of the host below them.
///
/// # Errors
/// Those of the kernel: EPERM without CAP_SYS_ADMIN.
pub fn empty() -> io::Result<OwnedFd> {
    let made = thread::spawn(|| {
        unshare()?;
        let own = rustix::fs::open(
            "/proc/thread-self/ns/mnt",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let options = [("mode", Some("0555")), ("nr_inodes", Some("1"))];
        let root = mount::new("tmpfs", Some("tmpfs"), &options, attribute::READ_ONLY)?;
        mount::attach(root.as_fd(), slash()?.as_fd())?;
        exchange_root(root.as_fd())?;
        unmount_old_root()?;
        Ok(own)
    });
    made.join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that makes mounts failed")))
}

/// Moves the calling process, which must have one thread, into a copy of the namespace that [`empty`] made.
pub fn enter_copy(empty: BorrowedFd<'_>) -> io::Result<()> {
    process::join(empty, namespace::MOUNT)?;
    process::unshare(namespace::MOUNT)
}

/// Opens `/` itself, whatever lies over it.
pub fn slash() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Makes a mount that lies over `/` the root of all processes of this namespace; the old root then lies over it
/// (pivot_root(2), "pivot_root(".", ".")") and is the working directory.
pub fn exchange_root(root: BorrowedFd<'_>) -> io::Result<()> {
    fchdir(root)?;
    Ok(pivot_root(".", ".")?)
}

/// Lets go of the root that [`exchange_root`] left over the new one.
pub fn unmount_old_root() -> io::Result<()> {
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// Makes a mount that lies over `/` the root of the calling process. No other process is looked at, unlike
/// [`exchange_root`]; what is below stays there, so that it must be nothing worth seeing.
pub fn enter_root(root: BorrowedFd<'_>) -> io::Result<()> {
    fchdir(root)?;
    chroot(".")?;
    Ok(chdir("/")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_has_one_mount_that_takes_nothing() {
        let empty = empty().unwrap();
        let child = process::copy(0, None, || {
            let proc = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
            enter_copy(empty.as_fd()).unwrap();
            let read = |name: &str| {
                let file = rustix::fs::openat(&proc, name, OFlags::RDONLY, Mode::empty()).unwrap();
                io::read_to_string(std::fs::File::from(file)).unwrap()
            };
            let mounts = read("self/mountinfo");
            let one = mounts.lines().count() == 1 && mounts.contains(" / / ro");
            let nothing = std::fs::read_dir("/").unwrap().count() == 0;
            let refused = std::fs::write("/file", "").is_err();
            i32::from(!(one && nothing && refused))
        })
        .unwrap();
        let end = crate::pidfd::wait(child.pidfd.as_fd()).unwrap();
        assert_eq!(end, crate::pidfd::Exit::Code(0));
    }
}
