//! A small init for containers (`--init`, called by the name `docker-init`): runs one program, passes signals on to it, reaps what
//! else ends, and ends as it did.

use std::ffi::{CString, OsString};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use cais_sys::pidfd::{Exit, reap_any};
use cais_sys::{process, signals};

/// SIGCHLD.
const CHILD: i32 = 17;
/// SIGTTIN and SIGTTOU: for us, not for the program.
const TERMINAL: [i32; 2] = [21, 22];

/// Runs `docker-init [--] PROGRAM [ARGUMENT...]`; answers its exit code, 128 + n for signal n.
pub fn main(args: Vec<OsString>) -> i32 {
    let words: Vec<_> = args
        .into_iter()
        .skip(1)
        .skip_while(|word| word == "--")
        .collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "docker-init: {error}");
            if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            }
        }
    }
}

fn run(words: &[OsString]) -> io::Result<i32> {
    let program = words
        .first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is given"))?;
    let path = look_up(program)?;
    let text = |word: &OsString| CString::new(word.as_bytes());
    let arguments = words.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut line = name;
        line.push("=");
        line.push(value);
        CString::new(line.as_bytes())
    });
    let environment = environment.collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(path.as_bytes())?;
    // Blocked before the program exists, so that its end cannot be missed.
    signals::block_all()?;
    let incoming = signals::descriptor()?;
    let child = process::copy(0, None, || {
        let _ = rustix::process::setsid();
        if cais_sys::pty::is_terminal(io::stdin().as_fd()) {
            // The terminal may belong to another session; then the program does without its control.
            let _ = cais_sys::pty::make_controlling(io::stdin().as_fd());
        }
        process::reset_signals();
        let error = process::execute(&path, &arguments, &environment);
        let _ = writeln!(
            io::stderr(),
            "docker-init: {}: {error}",
            path.to_string_lossy()
        );
        if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        }
    })?;
    loop {
        let signal = signals::read(incoming.as_fd())?;
        if signal == CHILD {
            if let Some(exit) = reap(child.pid)? {
                return Ok(exit.code());
            }
        } else if !TERMINAL.contains(&signal) {
            // It may have ended a moment ago.
            let _ = signals::kill(child.pid, signal);
        }
    }
}

/// Reaps everything that has ended; answers how the program did when it is among it.
fn reap(program: i32) -> io::Result<Option<Exit>> {
    let mut ended = None;
    while let Some((pid, exit)) = reap_any()? {
        if pid == program {
            ended = Some(exit);
        }
    }
    Ok(ended)
}

/// Finds a program in PATH.
fn look_up(program: &OsString) -> io::Result<OsString> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.clone());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    let found = candidates
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok());
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{}: not found", program.to_string_lossy()),
        )
    };
    found.map(Into::into).ok_or_else(missing)
}
