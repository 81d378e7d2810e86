//! A client of the Docker Engine API over hyper: hosts, contexts, connection reuse, hijacked streams and one function per
//! operation. It serves `cli` and `compose`, and works with every daemon from API 1.24 on. It prints nothing and reads
//! neither the environment nor the home directory by itself: the caller passes both in.

pub mod answer;
pub mod api;
pub mod body;
pub mod call;
pub mod client;
pub mod config;
pub mod config_file;
pub mod credentials;
pub mod demux;
pub mod endpoint;
pub mod error;
pub mod hijack;
pub mod host;
mod path;
mod socket;

pub use answer::{Answer, ByteStream, JsonLines};
pub use call::Call;
pub use client::{Client, ClientOptions, DaemonStarter, MAX_API_MINOR, MIN_API_MINOR};
pub use config::ConfigFile;
pub use demux::{Demux, StreamKind};
pub use endpoint::{Endpoint, EndpointChoice};
pub use error::{ClientError, Result};
pub use hijack::{HijackReader, HijackWriter, Hijacked};
pub use host::{DEFAULT_HOST, DEFAULT_SOCKET, Host};
