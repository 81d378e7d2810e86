//! Standard input without a thread: readiness from the kernel where it can be polled, plain reads where it never blocks.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Standard input of this process. Its flags are left alone: the descriptor is shared with the shell.
pub enum Stdin {
    /// A terminal, pipe or socket.
    Polled(AsyncFd<BorrowedFd<'static>>),
    /// A file or a device that cannot be polled.
    Plain,
}

impl Stdin {
    /// Opens standard input.
    pub fn open() -> Self {
        let fd = rustix::stdio::stdin();
        #[expect(
            deprecated,
            reason = "its successor is unsafe; standard input is never closed here"
        )]
        let polled = AsyncFd::with_interest(fd, Interest::READABLE);
        match polled {
            Ok(polled) => Self::Polled(polled),
            Err(_) => Self::Plain,
        }
    }

    /// Reads what is there; 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain => Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?),
            Self::Polled(fd) => loop {
                let mut ready = fd.readable().await?;
                // The descriptor blocks and readiness is told once per change, so ask again before every read.
                if !readable_now(*fd.get_ref())? {
                    ready.clear_ready();
                    continue;
                }
                match rustix::io::read(fd.get_ref(), &mut *buffer) {
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    // A terminal that hung up.
                    Err(rustix::io::Errno::IO) => return Ok(0),
                    result => return Ok(result?),
                }
            },
        }
    }
}

fn readable_now(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(rustix::event::poll(&mut fds, Some(&now))? > 0)
}
