//! The server against a fake engine: raw HTTP, hijacked connections, and the real docker CLI.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod docker;
mod fake;
mod hijack;
mod http;
