//! Building images: the Dockerfile language, the graph of stages made from it, and the solver that runs them.

pub mod attest;
pub mod cancel;
pub mod changes;
pub mod directory;
pub mod dockerfile;
pub mod git;
pub mod listing;
pub mod messages;
pub mod ports;
pub mod request;

mod builder;
mod cache;
mod output;
mod plan;
mod stage;
mod steps;
mod transfer;

pub use builder::{Prepared, prepare};
pub use request::{BuildRequest, NamedContext};
