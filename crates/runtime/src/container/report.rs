//! What a new process tells its maker: that it is ready, or what failed where.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The program is not there: exit code 127.
    CommandNotFound,
    /// The program cannot be executed: exit code 126.
    CommandNotExecutable,
    /// The specification asks for something that makes no sense.
    Invalid,
    Internal,
}

/// A container or process that could not be made or started. `Display` is what runc would print.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RuntimeError {
    pub class: Class,
    pub message: String,
}

/// The result of a step.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

impl RuntimeError {
    /// A failure of a class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// The specification is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::Invalid, message)
    }
}

/// Names the step that an error of the kernel ended.
pub fn during<E: Into<io::Error>>(step: impl std::fmt::Display) -> impl FnOnce(E) -> RuntimeError {
    move |error| RuntimeError::new(Class::Internal, format!("{step}: {}", plain(&error.into())))
}

/// A cgroup refused.
pub fn cgroup(error: crate::cgroups::CgroupError) -> RuntimeError {
    let class = match error.class() {
        cais_types::ErrorClass::Internal => Class::Internal,
        _ => Class::Invalid,
    };
    RuntimeError::new(
        class,
        format!("unable to apply cgroup configuration: {error}"),
    )
}

/// An error in lower case and without its number, as C and Go print it.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

fn confused() -> RuntimeError {
    RuntimeError::new(Class::Internal, "the container's process is confused")
}

/// The longest report, bytes.
const LIMIT: usize = 16 << 10;

#[derive(Serialize, Deserialize)]
enum Word {
    /// Namespaces are joined and ids mapped: the child may go on.
    Go,
    /// All mounts are made, the root is still the host's.
    Mounted,
    /// The process waits for the word to execute.
    Ready,
    Failed(RuntimeError),
}

/// One end of the socket between a process and its maker.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = cais_sys::socket::packet_pair()?;
        Ok((Self(one), Self(other)))
    }

    /// The socket.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// From a connected socket of packets.
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self(socket)
    }

    fn send(&self, word: &Word, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(word)?;
        cais_sys::socket::send(self.as_fd(), &bytes[..bytes.len().min(LIMIT)], fds).map(drop)
    }

    /// Lets the child go on; the maker's side.
    pub fn go(&self) -> io::Result<()> {
        self.send(&Word::Go, &[])
    }

    /// Waits for the word to go on; the child's side. `false` when the maker has gone.
    pub fn wait_go(&self) -> bool {
        matches!(self.receive(), Ok(Some((Word::Go, _))))
    }

    /// Says that the process waits to execute, with the controller of its terminal.
    pub fn ready(&self, console: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.send(&Word::Ready, console.as_slice())
    }

    /// Says that all mounts are made.
    pub fn mounted(&self) -> io::Result<()> {
        self.send(&Word::Mounted, &[])
    }

    /// Waits until all mounts are made.
    pub fn wait_mounted(&self) -> Result<()> {
        match self.wait_word()? {
            (Word::Mounted, _) => Ok(()),
            _ => Err(confused()),
        }
    }

    /// Says what failed.
    pub fn failed(&self, error: &RuntimeError) {
        // Nobody may listen any more; then there is nobody to tell.
        let _ = self.send(&Word::Failed(error.clone()), &[]);
    }

    /// Waits until the process is ready; answers the controller of its terminal.
    pub fn wait_ready(&self) -> Result<Option<OwnedFd>> {
        match self.wait_word()? {
            (Word::Ready, mut fds) => Ok(fds.pop()),
            _ => Err(confused()),
        }
    }

    /// The next word of a process that is not ready yet.
    fn wait_word(&self) -> Result<(Word, Vec<OwnedFd>)> {
        match self
            .receive()
            .map_err(during("read from the container's process"))?
        {
            Some((Word::Failed(error), _)) => Err(error),
            Some(word) => Ok(word),
            None => Err(RuntimeError::new(
                Class::Internal,
                "the container's process ended before it was ready",
            )),
        }
    }

    /// Waits until the process has executed its program: the socket closes then.
    pub fn wait_executed(&self) -> Result<()> {
        match self
            .receive()
            .map_err(during("read from the container's process"))?
        {
            None => Ok(()),
            Some((Word::Failed(error), _)) => Err(error),
            Some(_) => Err(confused()),
        }
    }

    fn receive(&self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        let (mut buffer, mut fds) = (vec![0; LIMIT], Vec::new());
        let length = cais_sys::socket::receive(self.as_fd(), &mut buffer, &mut fds)?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
    }
}
