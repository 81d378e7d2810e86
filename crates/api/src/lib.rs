//! The Engine API over HTTP: versions 1.24 to 1.51, as Docker answers them. It knows requests, answers and streams, and
//! nothing of what is behind the traits of [`backend`].

pub mod backend;
mod compat;
mod connection;
mod listen;
mod reply;
mod request;
mod route;
mod routers;
mod server;
mod version;

pub use listen::{Listener, bind, unix_listener};
pub use reply::status;
pub use server::serve;
