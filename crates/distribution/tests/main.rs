//! Tests of the registry client and of the registry server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod server;
