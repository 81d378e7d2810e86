//! The command line as a process against a fake daemon: requests, streams, exit codes and texts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod credentials;
mod errors;
mod fake;
mod registry;
mod run;
mod streams;
mod terminal;
