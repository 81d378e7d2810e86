//! The container's root file system as an overlay mount that is in no mount namespace yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// The kernel takes option values shorter than this, bytes (fsconfig(2)).
const VALUE_LIMIT: usize = 256;

/// Mounts the layers, topmost lower layer first. Each lower layer is given by itself, so that neither their number nor a colon
/// in a path matters; needs Linux 6.5.
pub fn mount(lower: &[PathBuf], upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    // As Docker does: an index would tie the upper layer to the mount it was first used with.
    fsconfig_set_string(context, "index", "off")?;
    for layer in lower {
        set_path(context, "lowerdir+", layer)?;
    }
    set_path(context, "upperdir", upper)?;
    set_path(context, "workdir", work)?;
    fsconfig_create(context)?;
    Ok(fsmount(
        context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
}

fn set_path(context: BorrowedFd<'_>, option: &str, path: &Path) -> io::Result<()> {
    let failed = |errno: Errno| {
        let cause = io::Error::from(errno);
        io::Error::new(
            cause.kind(),
            format!("overlay {option} {}: {cause}", path.display()),
        )
    };
    if path.as_os_str().len() < VALUE_LIMIT {
        return fsconfig_set_string(context, option, path).map_err(failed);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fsconfig_set_string(context, option, short).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_stacked_whatever_their_names_and_lengths() {
        let directory = tempfile::tempdir().unwrap();
        // The machine's /tmp may itself be an overlay, which cannot be an upper layer.
        let base = directory.path();
        rustix::mount::mount(
            "none",
            base,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .unwrap();
        let names = [
            "top:,\\".to_owned(),
            "middle".repeat(42),
            "bottom".to_owned(),
        ];
        let lower: Vec<PathBuf> = names.iter().map(|name| base.join(name)).collect();
        for (number, layer) in lower.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join("who"), number.to_string()).unwrap();
            std::fs::write(layer.join(format!("only{number}")), "x").unwrap();
        }
        let (upper, work) = (base.join("upper"), base.join("work"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let mounted = mount(&lower, &upper, &work);
        let seen = mounted.as_ref().map(|root| {
            let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
            std::fs::write(path.join("new"), "y").unwrap();
            let who = std::fs::read_to_string(path.join("who")).unwrap();
            (who, std::fs::read_dir(path).unwrap().count())
        });
        let written = upper.join("new").exists();
        let seen = seen.map_err(ToString::to_string);
        drop(mounted);
        rustix::mount::unmount(base, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(seen, Ok(("0".to_owned(), 5)));
        assert!(written);
    }

    #[test]
    fn a_missing_layer_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = mount(std::slice::from_ref(&missing), &missing, &missing).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
