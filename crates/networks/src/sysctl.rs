//! Kernel settings of the network namespace of the calling thread.
//!
//! Below one mount of procfs the kernel keeps the names of all network namespaces in one place: whoever opens
//! `/proc/sys/net/ipv4` there walks past those of all others. So settings are reached through a mount of our own that is
//! attached nowhere, and it is renewed before it knows many namespaces.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use cais_sys::mount::{self, attribute};
use rustix::fs::{Mode, OFlags};

/// How many settings are opened below one mount of procfs.
const RENEWAL: u32 = 256;

/// Attributes of the mount: no programs, no devices.
const ATTRIBUTES: u64 = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;

/// A mount of procfs, and how many settings it has left.
static PROCFS: Mutex<Option<(Arc<OwnedFd>, u32)>> = Mutex::new(None);

/// Writes a setting below `/proc/sys/net/`; `name` has slashes.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    let file = open(name, OFlags::WRONLY)?;
    rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

/// Reads a setting below `/proc/sys/net/` without its newline.
pub fn get(name: &str) -> io::Result<String> {
    let file = open(name, OFlags::RDONLY)?;
    let mut buffer = [0; 256];
    let length = rustix::io::read(file, &mut buffer[..])?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}

/// Like [`set`], where a kernel without this setting is right already.
pub fn set_if_there(name: &str, value: &str) -> io::Result<()> {
    match set(name, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open(name: &str, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::CLOEXEC;
    let file = match procfs() {
        Some(procfs) => {
            rustix::fs::openat(&procfs, format!("sys/net/{name}"), flags, Mode::empty())
        }
        None => rustix::fs::open(format!("/proc/sys/net/{name}"), flags, Mode::empty()),
    };
    Ok(file?)
}

/// A mount of procfs for one setting; `None` where we may not make one.
fn procfs() -> Option<Arc<OwnedFd>> {
    let mut current = PROCFS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((procfs, left @ 1..)) = &mut *current {
        *left -= 1;
        return Some(Arc::clone(procfs));
    }
    let fresh = Arc::new(mount::new("proc", Some("proc"), &[], ATTRIBUTES).ok()?);
    let former = current.replace((Arc::clone(&fresh), RENEWAL - 1));
    drop(current);
    // The kernel takes its time to take a mount apart: nobody else waits for that.
    drop(former);
    Some(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_that_of_the_namespace_of_its_thread() {
        let name = "ipv4/ip_default_ttl";
        let ours = get(name).unwrap();
        for value in ["17", "18"] {
            let one = move || {
                cais_sys::netns::unshare().unwrap();
                set(name, value).unwrap();
                get(name).unwrap()
            };
            assert_eq!(std::thread::spawn(one).join().unwrap(), value);
        }
        assert_eq!(get(name).unwrap(), ours);
        let missing = set("ipv4/no_such_setting", "1").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        set_if_there("ipv4/no_such_setting", "1").unwrap();
    }

    #[test]
    fn mounts_of_procfs_are_renewed() {
        let first = procfs().unwrap();
        let mut settings = (0..=RENEWAL).map(|_| procfs().unwrap());
        assert!(settings.any(|procfs| !Arc::ptr_eq(&procfs, &first)));
        drop(settings);
        assert!(get("ipv4/ip_default_ttl").is_ok());
    }
}
