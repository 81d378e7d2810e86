//! Networks with real kernel objects, each test in a network namespace of its own that plays the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod dns;
mod firewall;
mod host;
mod names;
mod outbound;
mod ports;
mod reach;
mod restart;
mod sandbox;
mod user_networks;
