//! The OCI runtime without async: spec to namespaces, cgroups, mounts, seccomp, capabilities, init and exec; the monitor
//! that owns one container; and the runtime's command line. Knows nothing of Docker, images or HTTP.

pub mod capabilities;
pub mod cgroups;
pub mod container;
pub mod face;
pub mod reaper;
pub mod seccomp;
pub mod spec;
pub mod timestamp;
