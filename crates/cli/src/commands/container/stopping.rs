//! What `stop` and `restart` are told alike.

use cais_client::api::options::StopOptions;

use crate::flags::{Flag, Parsed, flag};

/// Signal and time of a stop.
pub const FLAGS: &[Flag] = &[
    flag("signal", "string", "Signal to send to the container").short('s'),
    flag("time", "int", "Seconds to wait before it is killed")
        .hidden()
        .same_as("timeout"),
    flag("timeout", "int", "Seconds to wait before it is killed").short('t'),
];

/// What the flags ask for; the container's own settings where they say nothing.
pub fn options(args: &Parsed) -> StopOptions {
    StopOptions {
        signal: args.value("signal").map(str::to_owned),
        timeout: args.changed("timeout").then(|| args.int("timeout", 0)),
    }
}
