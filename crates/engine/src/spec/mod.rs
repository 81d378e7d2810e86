//! From a container's record to the OCI specification that its monitor runs. Reads devices of the host; changes nothing.

mod devices;
mod linux;
mod mounts;
mod process;
mod resources;
pub mod security;
pub mod user;

use std::path::{Path, PathBuf};

use cais_runtime::spec::{Root, Spec, VERSION};
use cais_types::Result;

use crate::files::EtcFiles;
use crate::house::EngineConfig;
use crate::record::{NetworkMode, Record};
use security::Security;
use user::Identity;

pub use linux::{DEFAULT_READONLY, default_masked};
pub use process::exec_process;
pub use resources::limits;

/// Namespaces of another container that this one joins, and the shared memory that goes with them.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    pub pid: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    /// Directory with shared memory to bind to `/dev/shm`.
    pub shm: Option<PathBuf>,
}

/// What a specification is made from.
pub struct Input<'a> {
    pub record: &'a Record,
    pub config: &'a EngineConfig,
    pub identity: &'a Identity,
    pub joined: &'a Joined,
    /// Variables besides those of the record.
    pub env: &'a [String],
    /// The container's own directory.
    pub directory: &'a Path,
    /// Absolute within each hierarchy.
    pub cgroup: String,
}

/// Builds the specification. The network namespace has no path: the monitor gets it as a descriptor.
///
/// # Errors
/// Wrong `--security-opt`, devices that are not there, unknown capabilities, in Docker's words.
pub fn build(input: &Input<'_>) -> Result<Spec> {
    let record = input.record;
    let host = &record.host_config;
    let security = Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let own_uts = host.uts_mode != "host";
    let hostname = hostname(record);
    let domainname = &record.config.domainname;
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process::init_process(input, &security)?),
        root: Some(Root {
            path: PathBuf::from("rootfs"),
            readonly: host.readonly_rootfs,
        }),
        hostname: own_uts.then_some(hostname),
        domainname: (own_uts && !domainname.is_empty()).then(|| domainname.clone()),
        mounts: mounts::all(input, &EtcFiles::new(input.directory))?,
        hooks: None,
        annotations: host.annotations.clone(),
        linux: Some(linux::linux(input, &security)?),
    })
}

/// The host name inside: the configured one, which create has set to the short id when the user named none.
pub fn hostname(record: &Record) -> String {
    if record.config.hostname.is_empty() {
        record.id.short()
    } else {
        record.config.hostname.clone()
    }
}

/// Whether a container has a network namespace of its own or of another container.
pub fn has_network_namespace(record: &Record) -> bool {
    record.network_mode() != NetworkMode::Host
}

#[cfg(test)]
pub(crate) mod tests;
