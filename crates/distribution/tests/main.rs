//! Tests of the registry client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
