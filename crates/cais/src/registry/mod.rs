//! `cais registry`: the registry server's composition root and the commands on its folder. What happens is decided in
//! `registry`.

mod collect;
mod list;
mod options;
mod remove;
mod serve;

use std::ffi::OsString;
use std::io::Write as _;

use anyhow::Result;

use options::{Registry, Verb};

/// Runs a command; answers the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    match run(args) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cais registry: {error:#}");
            1
        }
    }
}

fn run(args: Vec<OsString>) -> Result<()> {
    let words = args
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match Registry::read(words)?.verb {
        Verb::Serve(options) => serve::run(*options),
        Verb::Gc(options) => collect::run(&options),
        Verb::Ls(options) => list::run(&options),
        Verb::Rm(options) => remove::run(&options),
    }
}

/// Prints to standard output; a reader that has gone is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
