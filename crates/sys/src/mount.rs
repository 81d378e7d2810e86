//! Mounts: what rustix lacks (mount_setattr(2)), and detached mounts of the kinds containers need.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Attributes to set and to clear on a mount, and its propagation; bits of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0 leaves it.
    pub propagation: u64,
}

/// Bits of [`Attributes`].
pub mod attribute {
    pub const READ_ONLY: u64 = 0x1;
    pub const NO_SUID: u64 = 0x2;
    pub const NO_DEV: u64 = 0x4;
    pub const NO_EXEC: u64 = 0x8;
    /// Mask of the access time bits.
    pub const ACCESS_TIME: u64 = 0x70;
    pub const RELATIVE_ACCESS_TIME: u64 = 0x0;
    pub const NO_ACCESS_TIME: u64 = 0x10;
    pub const STRICT_ACCESS_TIME: u64 = 0x20;
    pub const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
    pub const ID_MAPPED: u64 = 0x10_0000;
    pub const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;
    pub const UNBINDABLE: u64 = 1 << 17;
    pub const PRIVATE: u64 = 1 << 18;
    pub const SLAVE: u64 = 1 << 19;
    pub const SHARED: u64 = 1 << 20;
}

/// struct mount_attr.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// mount_setattr(2) on the mount that `mount` is open on; `user_namespace` maps ids when ID_MAPPED is set.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    recursive: bool,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    let arguments = MountAttr {
        set: attributes.set,
        clear: attributes.clear,
        propagation: attributes.propagation,
        user_namespace: user_namespace.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is terminated, and the kernel reads one struct of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const arguments,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A new file system as a mount that is attached nowhere. An option without a value is a flag.
pub fn new(
    kind: &str,
    source: Option<&str>,
    options: &[(&str, Option<&str>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    if let Some(source) = source.filter(|source| !source.is_empty()) {
        fsconfig_set_string(context, "source", source)?;
    }
    for (name, value) in options {
        let set = match value {
            Some(value) => fsconfig_set_string(context, *name, *value),
            None => fsconfig_set_flag(context, *name),
        };
        set.map_err(|errno| with_detail(errno.into(), &format!("option {name}")))?;
    }
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn with_detail(error: io::Error, detail: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{detail}: {error}"))
}

/// A copy of the mount below an open file or directory, attached nowhere.
pub fn copy(source: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(source, "", flags)?)
}

/// Attaches a detached mount at an open place.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}
