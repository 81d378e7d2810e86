//! The options of the local driver that mount something on a volume's directory: `type`, `o`, `device`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::error::VolumeError;

/// What is mounted on a volume while it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    kind: String,
    device: String,
    options: String,
}

/// Reads the options; `None` when nothing is to be mounted.
pub fn request(
    name: &str,
    options: &BTreeMap<String, String>,
) -> Result<Option<MountRequest>, VolumeError> {
    let bad = |text: String| VolumeError::BadOption(name.to_owned(), text);
    let known = |key: &str| matches!(key, "type" | "o" | "device" | "size");
    if let Some(key) = options.keys().find(|key| !known(key)) {
        return Err(bad(format!("invalid option: {key:?}")));
    }
    let get = |key: &str| options.get(key).cloned().unwrap_or_default();
    if options.contains_key("size") {
        let text = "quota size requested but no quota support";
        return Err(bad(text.to_owned()));
    }
    let request = MountRequest {
        kind: get("type"),
        device: get("device"),
        options: get("o"),
    };
    if request.kind.is_empty() && request.device.is_empty() {
        if !request.options.is_empty() {
            return Err(bad("missing device in volume options".to_owned()));
        }
        return Ok(None);
    }
    if request.device.is_empty() {
        return Err(bad("missing device in volume options".to_owned()));
    }
    if request.kind.is_empty() && !is_bind(&request) {
        return Err(bad("missing type in volume options".to_owned()));
    }
    Ok(Some(request))
}

fn is_bind(request: &MountRequest) -> bool {
    request
        .options
        .split(',')
        .any(|word| matches!(word, "bind" | "rbind"))
}

/// Mounts it on `target`.
pub fn mount(request: &MountRequest, target: &Path) -> Result<(), VolumeError> {
    let (flags, propagation, mut data) = split_options(&request.options);
    let mut device = request.device.clone();
    if matches!(&*request.kind, "nfs" | "nfs4" | "cifs") {
        (device, data) = resolve_address(&request.kind, device, data);
    }
    let fail = |errno: Errno| VolumeError::Mount {
        device: request.device.clone(),
        target: target.display().to_string(),
        data: Some(&data)
            .filter(|data| !data.is_empty())
            .map(|data| format!(", data: {data}"))
            .unwrap_or_default(),
        source: errno.into(),
    };
    if flags.contains(MountFlags::BIND) {
        let recursive = flags.contains(MountFlags::REC);
        let bind = if recursive {
            rustix::mount::mount_bind_recursive
        } else {
            rustix::mount::mount_bind
        };
        bind(&device, target).map_err(fail)?;
        let rest = flags - MountFlags::BIND - MountFlags::REC;
        if !rest.is_empty() {
            let remounted = rustix::mount::mount_remount(target, rest | MountFlags::BIND, c"");
            if let Err(errno) = remounted {
                unmount(target);
                return Err(fail(errno));
            }
        }
    } else {
        let text = CString::new(data.clone()).map_err(|_| fail(Errno::INVAL))?;
        rustix::mount::mount(&*device, target, &*request.kind, flags, Some(&*text))
            .map_err(fail)?;
    }
    if let Some(propagation) = propagation {
        rustix::mount::mount_change(target, propagation).map_err(fail)?;
    }
    Ok(())
}

/// Takes the mount away; a missing one is no error.
pub fn unmount(target: &Path) {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => {
            tracing::warn!(%error, target = %target.display(), "a volume could not be unmounted");
        }
    }
}

/// The kernel takes addresses only: `addr=NAME` of network file systems is looked up here.
fn resolve_address(kind: &str, device: String, data: String) -> (String, String) {
    use std::net::ToSocketAddrs;
    let Some(name) = data.split(',').find_map(|word| word.strip_prefix("addr=")) else {
        return (device, data);
    };
    let address = (name, 0)
        .to_socket_addrs()
        .ok()
        .and_then(|mut list| list.next());
    let Some(address) = address else {
        return (device, data);
    };
    let address = address.ip().to_string();
    let data = data.replace(&format!("addr={name}"), &format!("addr={address}"));
    let device = match kind {
        "cifs" => device,
        _ => device.replacen(&format!("{name}:"), &format!("{address}:"), 1),
    };
    (device, data)
}

/// Words of `o` that are flags, the propagation, and the rest for the file system.
fn split_options(options: &str) -> (MountFlags, Option<MountPropagationFlags>, String) {
    let mut flags = MountFlags::empty();
    let mut propagation = None;
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        let (flag, set) = match word {
            "ro" => (MountFlags::RDONLY, true),
            "rw" => (MountFlags::RDONLY, false),
            "nosuid" => (MountFlags::NOSUID, true),
            "suid" => (MountFlags::NOSUID, false),
            "nodev" => (MountFlags::NODEV, true),
            "dev" => (MountFlags::NODEV, false),
            "noexec" => (MountFlags::NOEXEC, true),
            "exec" => (MountFlags::NOEXEC, false),
            "sync" => (MountFlags::SYNCHRONOUS, true),
            "async" => (MountFlags::SYNCHRONOUS, false),
            "dirsync" => (MountFlags::DIRSYNC, true),
            "noatime" => (MountFlags::NOATIME, true),
            "nodiratime" => (MountFlags::NODIRATIME, true),
            "relatime" => (MountFlags::RELATIME, true),
            "strictatime" => (MountFlags::STRICTATIME, true),
            "bind" => (MountFlags::BIND, true),
            "rbind" => (MountFlags::BIND | MountFlags::REC, true),
            "defaults" => (MountFlags::empty(), true),
            word => {
                let change = match word {
                    "private" => Some(MountPropagationFlags::PRIVATE),
                    "rprivate" => Some(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
                    "shared" => Some(MountPropagationFlags::SHARED),
                    "rshared" => Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC),
                    "slave" => Some(MountPropagationFlags::DOWNSTREAM),
                    "rslave" => {
                        Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
                    }
                    _ => None,
                };
                match change {
                    Some(change) => propagation = Some(change),
                    None => data.push(word),
                }
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, propagation, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn incomplete_and_unknown_options_are_refused() {
        for (pairs, want) in [
            (&[("foo", "x")][..], "create v: invalid option: \"foo\""),
            (&[("o", "ro")], "create v: missing device in volume options"),
            (
                &[("type", "tmpfs")],
                "create v: missing device in volume options",
            ),
            (
                &[("device", "/x")],
                "create v: missing type in volume options",
            ),
            (
                &[("size", "1g")],
                "create v: quota size requested but no quota support",
            ),
        ] {
            let error = request("v", &options(pairs)).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        assert_eq!(request("v", &options(&[])).unwrap(), None);
        let bind = options(&[("type", "none"), ("o", "bind"), ("device", "/x")]);
        assert!(request("v", &bind).unwrap().is_some());
    }

    #[test]
    fn words_become_flags_and_the_rest_is_for_the_file_system() {
        let (flags, propagation, data) = split_options("ro,size=1m,noexec,rshared,uid=5");
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOEXEC);
        assert!(propagation.is_some());
        assert_eq!(data, "size=1m,uid=5");
    }
}
