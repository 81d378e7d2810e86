//! The wire models of the Engine API, version 1.51, shared by the server, the engine, the client and the CLI.
//!
//! They print what Docker prints: fields in the order of Docker's own structs, `null`, `[]`, `""` or nothing where Docker
//! has them, maps sorted. Where Docker tells `null` from `[]` the field is an `Option`; where it leaves an empty value out
//! the field is plain and skipped. Times are RFC 3339 texts, durations nanoseconds, sizes bytes. Decode with [`decode`].

pub mod container;
pub mod decode;
pub mod events;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod network;
pub mod progress;
pub mod query;
pub mod registry;
pub mod stats;
pub mod system;
pub mod volume;

pub use container::*;
pub use events::{Actor, EventMessage};
pub use exec::*;
pub use host_config::*;
pub use image::*;
pub use network::*;
pub use registry::*;
pub use stats::*;
pub use system::*;
pub use volume::*;

/// Go's zero time, as Docker prints times that have not come yet.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// The newest version of the Engine API these models speak.
pub const API_VERSION: &str = "1.51";

/// The oldest version of the Engine API a server answers.
pub const MIN_API_VERSION: &str = "1.24";

/// An object without fields: the value of Docker's sets, such as `ExposedPorts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}

/// The answer of `POST /commit` and of the `create` calls of secrets and configs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct IdResponse {
    #[serde(rename = "Id")]
    pub id: String,
}

/// The body of every answer with an error status.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    pub message: String,
}
