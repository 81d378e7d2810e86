//! A monitor's beginning: from the launch socket to the loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::control::Connection;
use super::json_file::LogWriter;
use super::protocol::{Envelope, Failure, LAUNCH_FD, Launch, Log, Message};
use super::runner::{Runner, StdioPlan};
use super::session::Session;
use super::supervisor::{Places, Supervisor};
use super::wire;

/// Runs a monitor whose container is made by what `prepare` answers of the launch and its descriptor; the process's exit
/// status. Descriptor [`LAUNCH_FD`] is the launch socket.
pub fn serve<R: Runner>(
    prepare: impl FnOnce(Launch, Option<OwnedFd>) -> Result<R, Failure>,
) -> i32 {
    // The engine sees the closed socket; there is nobody else to tell of a failure.
    begin().and_then(|socket| run(socket, prepare)).unwrap_or(1)
}

/// Leaves everything behind that belongs to the engine's process.
fn begin() -> io::Result<OwnedFd> {
    cais_sys::heap::keep_small();
    cais_sys::inherit::ignore_end_signals();
    let number = u16::try_from(LAUNCH_FD).map_err(io::Error::other)?;
    let socket = cais_sys::inherit::take(number)?;
    cais_sys::inherit::close_from(u32::from(number) + 1)?;
    // Fails when the launcher has done so already.
    rustix::process::setsid().ok();
    rustix::thread::set_name(c"cais-monitor")?;
    rustix::process::chdir("/")?;
    Ok(socket)
}

fn run<R: Runner>(
    socket: OwnedFd,
    prepare: impl FnOnce(Launch, Option<OwnedFd>) -> Result<R, Failure>,
) -> io::Result<i32> {
    let (launch, mut descriptors): (Launch, _) = wire::receive(&socket)?;
    let places = Places {
        directory: launch.directory.clone(),
        socket: launch.socket.clone(),
    };
    let stdio = launch.stdio;
    let plan = StdioPlan {
        terminal: stdio.terminal,
        input: stdio.stdin,
        output: true,
    };
    let init = Session::new(None, plan, stdio.stdin_once, open_log(&launch.log));
    let prepared = listen(&places.socket)
        .map_err(Failure::from)
        .and_then(|listener| Ok((listener, prepare(launch, descriptors.pop())?)));
    let (listener, runner) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            refuse(&socket, &failure)?;
            std::fs::remove_file(&places.socket).ok();
            return Ok(1);
        }
    };
    // What the specification took is free by now.
    cais_sys::heap::trim();
    Ok(Supervisor::new(runner, places, listener, Connection::new(socket), init).run())
}

fn open_log(log: &Log) -> Option<LogWriter> {
    match log {
        Log::JsonFile {
            path,
            max_size,
            max_files,
            attributes,
        } => Some(LogWriter::open(
            path.clone(),
            *max_size,
            *max_files,
            attributes,
        )),
        Log::None => None,
    }
}

/// Binds the control socket. One that a killed monitor left behind is replaced: the engine runs one monitor at a time.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    std::fs::remove_file(path).ok();
    let listener = cais_sys::socket::listen(path, 0o600)?;
    cais_sys::socket::set_nonblocking(listener.as_fd(), true)?;
    Ok(listener)
}

/// Answers the first request with a failure.
fn refuse(socket: &OwnedFd, failure: &Failure) -> io::Result<()> {
    let (envelope, _): (Envelope, _) = wire::receive(socket)?;
    let reply = Message::Reply {
        sequence: envelope.sequence,
        result: Err(failure.clone()),
    };
    wire::send(socket, &reply, &[])
}
