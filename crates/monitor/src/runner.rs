//! What the monitor needs of the runtime: a container made and started, processes added, and everything removed.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::protocol::{Failure, FailureClass, ProcessIdentity};
use cais_runtime::spec;

/// A process that was started and has not been reaped.
pub struct Running {
    pub identity: ProcessIdentity,
    pub pidfd: OwnedFd,
}

/// A started process, and the controlling end of its terminal when it has one.
pub struct Started {
    pub running: Running,
    pub console: Option<OwnedFd>,
}

/// What a new process gets as its standard streams.
pub enum ProcessStdio {
    /// A terminal of the container's own.
    Terminal,
    Descriptors {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

/// The monitor's ends of a process's streams.
#[derive(Default)]
pub struct Streams {
    pub input: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Makes and removes one container.
pub trait Runner {
    /// Creates the container; its init waits.
    fn create(&mut self, stdio: ProcessStdio, network: Option<OwnedFd>) -> Result<(), Failure>;

    /// Lets the init of the created container go.
    fn start(&mut self) -> Result<Started, Failure>;

    /// Adds a process to the running container.
    fn exec(&mut self, process: &spec::Process, stdio: ProcessStdio) -> Result<Started, Failure>;

    /// Kills what outlived init, when the container has no process namespace of its own.
    fn kill_rest(&mut self);

    /// Whether the kernel killed a process of the container for want of memory.
    fn oom_killed(&self) -> bool;

    /// Removes what was made; nothing to remove is no error.
    fn remove(&mut self);
}

/// What to connect a process with.
#[derive(Clone, Copy, Debug)]
pub struct StdioPlan {
    pub terminal: bool,
    /// Standard input is open; otherwise it reads end of file.
    pub input: bool,
    /// Somebody may want the output; otherwise it goes to `/dev/null`.
    pub output: bool,
}

impl StdioPlan {
    /// Makes the pipes: the process's ends and the monitor's.
    pub fn open(self) -> io::Result<(ProcessStdio, Streams)> {
        if self.terminal {
            return Ok((ProcessStdio::Terminal, Streams::default()));
        }
        let mut streams = Streams::default();
        let stdin = if self.input {
            let (far, near) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            streams.input = Some(near);
            far
        } else {
            null(OFlags::RDONLY)?
        };
        if !self.output {
            let stdout = null(OFlags::WRONLY)?;
            let stderr = stdout.try_clone()?;
            return Ok((
                ProcessStdio::Descriptors {
                    stdin,
                    stdout,
                    stderr,
                },
                streams,
            ));
        }
        let (near_stdout, stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (near_stderr, stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        streams.stdout = Some(near_stdout);
        streams.stderr = Some(near_stderr);
        Ok((
            ProcessStdio::Descriptors {
                stdin,
                stdout,
                stderr,
            },
            streams,
        ))
    }
}

fn null(access: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/dev/null",
        access | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

impl Failure {
    /// A failure of a class with Docker's wording.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(FailureClass::Internal, error.to_string())
    }
}
