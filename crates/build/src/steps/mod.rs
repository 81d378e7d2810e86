//! What each instruction does to a stage.

pub mod metadata;
pub mod run;
pub mod transfer;
pub mod workdir;
