//! What a specification must not ask for: what makes no sense, and what this runtime or this kernel cannot do. Nothing that is
//! asked for is left out in silence.

use std::collections::HashSet;
use std::path::Path;

use cais_sys::process::namespace;

use super::namespaces::Namespaces;
use super::report::{Result, RuntimeError};
use crate::spec::{Linux, Process, Spec};

/// Checks all that can be told before anything is made.
pub fn all(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    let process = spec
        .process
        .as_ref()
        .filter(|process| !process.args.is_empty())
        .ok_or_else(|| RuntimeError::invalid("process.args must not be empty"))?;
    let bits = namespaces.all();
    refuse(
        bits & namespace::MOUNT == 0,
        "a container without a mount namespace is not possible",
    )?;
    refuse(
        spec.hostname.is_some() && bits & namespace::UTS == 0,
        "unable to set hostname without a private UTS namespace",
    )?;
    refuse(
        spec.domainname.is_some() && bits & namespace::UTS == 0,
        "unable to set domainname without a private UTS namespace",
    )?;
    self::process(process)?;
    spec.linux
        .as_ref()
        .map_or(Ok(()), |wanted| linux(wanted, bits))
}

fn refuse(wrong: bool, message: &str) -> Result<()> {
    if wrong {
        Err(RuntimeError::invalid(message))
    } else {
        Ok(())
    }
}

fn given(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

/// What holds for init and for every exec.
pub fn process(process: &Process) -> Result<()> {
    let mut seen = HashSet::new();
    for limit in &process.rlimits {
        refuse(
            !seen.insert(limit.kind.as_str()),
            &format!("duplicate rlimit {}", limit.kind),
        )?;
    }
    refuse(
        given(process.apparmor_profile.as_ref()) && !apparmor_enabled(),
        "apparmor: config provided but apparmor not supported",
    )?;
    refuse(
        given(process.selinux_label.as_ref()) && !selinux_enabled(),
        "selinux label is specified in config, but selinux is disabled or not supported",
    )
}

fn linux(linux: &Linux, bits: u64) -> Result<()> {
    refuse(
        given(linux.mount_label.as_ref()) && !selinux_enabled(),
        "selinux label is specified in config, but selinux is disabled or not supported",
    )?;
    refuse(
        given(linux.mount_label.as_ref()),
        "linux.mountLabel is not supported by this runtime",
    )?;
    refuse(
        linux.intel_rdt.is_some(),
        "linux.intelRdt is not supported by this runtime",
    )?;
    refuse(
        !linux.net_devices.is_empty(),
        "linux.netDevices is not supported by this runtime",
    )?;
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    refuse(
        mapped && bits & namespace::USER == 0,
        "user namespace mappings specified, but user namespace isn't enabled in the config",
    )?;
    refuse(
        !linux.time_offsets.is_empty() && bits & namespace::TIME == 0,
        "time namespace offsets specified, but time namespace isn't enabled in the config",
    )?;
    let unknown = linux
        .time_offsets
        .keys()
        .find(|clock| !matches!(clock.as_str(), "monotonic" | "boottime"));
    refuse(
        unknown.is_some(),
        &format!(
            "unknown clock {:?} in timeOffsets",
            unknown.unwrap_or(&String::new())
        ),
    )
}

/// Whether AppArmor confines programs on this kernel.
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux is mounted, which it is when it is enabled.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}
