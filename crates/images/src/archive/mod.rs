//! Image archives: reading and writing what `docker save` writes, OCI layouts, and root file systems.

pub mod import;
pub mod load;
mod manifest;
pub mod save;
pub mod set;
