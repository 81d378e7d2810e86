//! What each instruction does to a stage.

pub mod metadata;
mod mounts;
pub mod remote;
pub mod run;
pub mod transfer;
pub mod workdir;
