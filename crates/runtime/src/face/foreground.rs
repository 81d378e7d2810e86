//! A process in the foreground: its terminal is passed through, signals are passed on, and its exit code is ours.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use cais_sys::{pidfd, pty, signals};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{Result, io, signal};

/// What takes part.
pub struct Foreground<'a> {
    /// A child of ours.
    pub pidfd: BorrowedFd<'a>,
    /// The controller of its terminal.
    pub console: Option<BorrowedFd<'a>>,
    /// What [`block_signals`] answered.
    pub signals: BorrowedFd<'a>,
}

/// Keeps all signals for [`Foreground::wait`]; to be called before the process exists.
pub fn block_signals() -> Result<OwnedFd> {
    signals::block_all().map_err(io("block signals"))?;
    signals::descriptor().map_err(io("signalfd"))
}

/// Raw mode until it is dropped.
struct Raw<'a>(BorrowedFd<'a>, rustix::termios::Termios);

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = pty::restore(self.0, &self.1);
    }
}

impl Foreground<'_> {
    /// Waits until the process has ended; answers its exit code, 128 + n for signal n.
    pub fn wait(&self) -> Result<i32> {
        let input = rustix::stdio::stdin();
        let _raw = match self.console {
            Some(_) if pty::is_terminal(input) => {
                self.resize();
                let before = pty::make_raw(input).map_err(io("raw terminal"))?;
                Some(Raw(input, before))
            }
            _ => None,
        };
        self.pass()?;
        let exit = pidfd::wait(self.pidfd).map_err(io("wait"))?;
        Ok(exit.code())
    }

    /// Passes everything in both directions until the process ends.
    fn pass(&self) -> Result<()> {
        let mut input_open = self.console.is_some();
        let mut output_open = self.console.is_some();
        loop {
            let mut ready = [false; 4];
            self.poll(&mut ready, input_open, output_open)?;
            let [ended, signalled, output, input] = ready;
            if signalled {
                self.forward_signal()?;
            }
            if let Some(console) = self.console {
                if output {
                    output_open = copy(console, rustix::stdio::stdout());
                }
                if input {
                    input_open = copy(rustix::stdio::stdin(), console);
                    if !input_open {
                        // End of input, as a terminal tells it.
                        let _ = rustix::io::write(console, &[4]);
                    }
                }
            }
            // What was written before the end is still to be read.
            if ended && !(output && output_open) {
                return Ok(());
            }
        }
    }

    fn poll(&self, ready: &mut [bool; 4], input: bool, output: bool) -> Result<()> {
        let watched = [
            (Some(self.pidfd), true),
            (Some(self.signals), true),
            (self.console, output),
            (Some(rustix::stdio::stdin()), input),
        ];
        let mut indices = Vec::with_capacity(4);
        let mut descriptors = Vec::with_capacity(4);
        for (index, (descriptor, wanted)) in watched.iter().enumerate() {
            if let Some(descriptor) = descriptor.as_ref().filter(|_| *wanted) {
                indices.push(index);
                descriptors.push(PollFd::new(descriptor, PollFlags::IN));
            }
        }
        match poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(io("poll")(errno)),
        }
        for (index, descriptor) in indices.into_iter().zip(descriptors) {
            ready[index] = !descriptor.revents().is_empty();
        }
        Ok(())
    }

    fn forward_signal(&self) -> Result<()> {
        let number = signals::read(self.signals).map_err(io("signalfd"))?;
        match number {
            signal::CHILD => {}
            signal::WINDOW_CHANGE if self.console.is_some() => self.resize(),
            // It may have ended already.
            number => drop(pidfd::send_signal(self.pidfd, number)),
        }
        Ok(())
    }

    fn resize(&self) {
        if let Some(console) = self.console
            && let Ok((rows, columns)) = pty::size(rustix::stdio::stdin())
        {
            let _ = pty::set_size(console.as_fd(), rows, columns);
        }
    }
}

/// Copies what is there; false when there will be no more.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 16 << 10];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) => false,
        Ok(count) => write_all(to, &buffer[..count]),
        Err(errno) => matches!(errno, Errno::INTR | Errno::AGAIN),
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut descriptors = [PollFd::new(&to, PollFlags::OUT)];
                let _ = poll(&mut descriptors, None);
            }
            Err(_) => return false,
        }
    }
    true
}
