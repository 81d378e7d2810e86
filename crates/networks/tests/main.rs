//! Networks with real kernel objects, each test in a network namespace of its own that plays the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod beside;
mod dns;
mod families;
mod firewall;
mod flush;
mod host;
mod host_firewall;
mod live;
mod names;
mod options;
mod outbound;
mod parents;
mod ports;
mod reach;
mod restart;
mod sandbox;
mod user_networks;
