//! Docker's own profile format (`--security-opt seccomp=FILE`): the OCI one with conditions on the architecture, the
//! capabilities and the kernel, resolved here for one container.

use cais_types::ErrorClass;
use serde::{Deserialize, Deserializer};

use crate::capabilities::Capabilities;
use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// Why a profile file cannot be used; the texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON, or not of this shape.
    #[error("Decoding seccomp profile failed: {0}")]
    Decode(#[from] serde_json::Error),
    /// Two ways to say one thing.
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    Architectures,
    /// Two ways to say one thing.
    #[error(
        "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
    )]
    Names,
    /// Not `MAJOR.MINOR`.
    #[error("invalid kernel version: {0:?}")]
    KernelVersion(String),
}

impl ProfileError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

impl From<ProfileError> for cais_types::Error {
    fn from(error: ProfileError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "or_null")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    arch_map: Vec<ArchitectureMap>,
    #[serde(deserialize_with = "or_null")]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(deserialize_with = "or_null")]
    syscalls: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchitectureMap {
    architecture: String,
    #[serde(deserialize_with = "or_null")]
    sub_architectures: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    #[serde(deserialize_with = "or_null")]
    name: String,
    #[serde(deserialize_with = "or_null")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "or_null")]
    args: Vec<LinuxSeccompArg>,
    #[serde(deserialize_with = "or_null")]
    includes: Filter,
    #[serde(deserialize_with = "or_null")]
    excludes: Filter,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    #[serde(deserialize_with = "or_null")]
    caps: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Go writes an empty list as null.
fn or_null<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Reads a profile file's text for a container whose bounding set is `bounding`, on this machine's kernel.
pub fn parse_profile(text: &[u8], bounding: Capabilities) -> Result<LinuxSeccomp, ProfileError> {
    let document: Document = serde_json::from_slice(text)?;
    let kernel = rustix::system::uname();
    let kernel = version(&kernel.release().to_string_lossy()).unwrap_or((0, 0));
    resolve(document, bounding, kernel)
}

fn resolve(
    document: Document,
    bounding: Capabilities,
    kernel: (u32, u32),
) -> Result<LinuxSeccomp, ProfileError> {
    if !document.architectures.is_empty() && !document.arch_map.is_empty() {
        return Err(ProfileError::Architectures);
    }
    let mut architectures = document.architectures;
    for map in document.arch_map {
        if map.architecture == "SCMP_ARCH_X86_64" {
            architectures.push(map.architecture);
            architectures.extend(map.sub_architectures);
            break;
        }
    }
    let mut syscalls = Vec::with_capacity(document.syscalls.len());
    for entry in document.syscalls {
        if !entry.excludes.is_empty() && entry.excludes.holds_any(bounding, kernel)?
            || !entry.includes.holds_all(bounding, kernel)?
        {
            continue;
        }
        let names = match (entry.name.is_empty(), entry.names.is_empty()) {
            (false, false) => return Err(ProfileError::Names),
            (false, true) => vec![entry.name],
            (true, _) => entry.names,
        };
        let (action, errno_ret, args) = (entry.action, entry.errno_ret, entry.args);
        syscalls.push(LinuxSyscall {
            names,
            action,
            errno_ret,
            args,
        });
    }
    Ok(LinuxSeccomp {
        default_action: document.default_action,
        default_errno_ret: document.default_errno_ret,
        architectures,
        flags: document.flags,
        listener_path: document.listener_path.filter(|path| !path.is_empty()),
        listener_metadata: document
            .listener_metadata
            .filter(|metadata| !metadata.is_empty()),
        syscalls,
    })
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.caps.is_empty() && self.arches.is_empty() && self.min_kernel.is_none()
    }

    fn kernel(&self, kernel: (u32, u32)) -> Result<Option<bool>, ProfileError> {
        let Some(wanted) = &self.min_kernel else {
            return Ok(None);
        };
        let wanted = version(wanted).ok_or_else(|| ProfileError::KernelVersion(wanted.clone()))?;
        Ok(Some(kernel >= wanted))
    }

    fn native(&self) -> bool {
        self.arches.iter().any(|arch| arch == "amd64")
    }

    fn holds_any(&self, bounding: Capabilities, kernel: (u32, u32)) -> Result<bool, ProfileError> {
        Ok(self.native()
            || self.caps.iter().any(|name| bounding.contains(name))
            || self.kernel(kernel)? == Some(true))
    }

    fn holds_all(&self, bounding: Capabilities, kernel: (u32, u32)) -> Result<bool, ProfileError> {
        Ok((self.arches.is_empty() || self.native())
            && self.caps.iter().all(|name| bounding.contains(name))
            && self.kernel(kernel)? != Some(false))
    }
}

/// Major and minor number at the beginning of a kernel's release.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}, "excludes": {}},
            {"names": ["arm_call"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "9.1"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "clone3", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}
        ]}"#;

    fn names(bounding: Capabilities) -> Vec<String> {
        let document = serde_json::from_str(PROFILE).unwrap();
        let filter = resolve(document, bounding, (6, 18)).unwrap();
        assert_eq!(filter.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        filter
            .syscalls
            .into_iter()
            .flat_map(|rule| rule.names)
            .collect()
    }

    #[test]
    fn conditions_choose_the_rules() {
        assert_eq!(names(Capabilities::NONE), ["read", "ptrace", "clone3"]);
        assert_eq!(names(Capabilities::ALL), ["read", "ptrace", "mount"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let read = |text: &str| parse_profile(text.as_bytes(), Capabilities::NONE);
        let both = r#"{"architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#;
        assert!(matches!(read(both), Err(ProfileError::Architectures)));
        let both = r#"{"syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert!(matches!(read(both), Err(ProfileError::Names)));
        assert!(matches!(read("{"), Err(ProfileError::Decode(_))));
        let kernel = r#"{"syscalls":[{"names":["a"],"includes":{"minKernel":"x"}}]}"#;
        assert!(matches!(read(kernel), Err(ProfileError::KernelVersion(_))));
    }
}
