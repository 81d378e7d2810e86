//! The words every room shares: typed ids, digests, error classes, connections handed between rooms, and the wire
//! models of the Engine API. Nothing here does IO.

pub mod api;
pub mod connection;
pub mod digest;
pub mod error;
pub mod human;
pub mod id;
pub mod oci;
pub mod reference;
pub mod signals;
pub mod size;

pub use connection::{ClientConnection, Framing};
pub use digest::Digest;
pub use error::{Error, ErrorClass, Result};
pub use id::{ContainerId, ExecId, NetworkId};
pub use reference::Reference;
