//! Processes by descriptor (pidfd_open(2)): opening, signalling, waiting, and what tells a process from a later one with
//! the same number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// The status as a shell tells it: 128 + n for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Opens a process; `NotFound` (ESRCH) when there is none with this number.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal by number; 0 only probes.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: pidfd_send_signal reads no memory when info is null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the process still runs (a zombie does not).
pub fn is_alive(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    let zero = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(rustix::event::poll(&mut fds, Some(&zero))? == 0)
}

/// Waits until the process has ended, child or not; false when `timeout_ms` (negative: never) was over first.
pub fn wait_end(pidfd: BorrowedFd<'_>, timeout_ms: i64) -> io::Result<bool> {
    let timeout = (timeout_ms >= 0).then(|| rustix::event::Timespec {
        tv_sec: timeout_ms / 1000,
        tv_nsec: (timeout_ms % 1000) * 1_000_000,
    });
    let mut fds = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    loop {
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait_for(id: WaitId<'_>, options: WaitIdOptions) -> io::Result<Option<Exit>> {
    loop {
        match rustix::process::waitid(id.clone(), options) {
            Ok(None) => return Ok(None),
            Ok(Some(status)) => {
                return Ok(Some(match status.exit_status() {
                    Some(code) => Exit::Code(code),
                    None => Exit::Signal(status.terminating_signal().unwrap_or(0)),
                }));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a child to end and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    let exit = wait_for(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)?;
    exit.ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}

/// Reaps a child when it has ended already.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    wait_for(
        WaitId::PidFd(pidfd),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    )
}

/// Reaps any one child that has ended, answering its number too; `None` when none has.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    // SAFETY: status is a valid place to write to.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    if pid > 0 {
        let exit = if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        };
        return Ok(Some((pid, exit)));
    }
    if pid == 0 {
        return Ok(None);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ECHILD) {
        Ok(None)
    } else {
        Err(error)
    }
}

/// Field 22 of `/proc/<pid>/stat`: start after boot, clock ticks.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.1)
}

/// State letter (`R`, `S`, `Z`, ...) and start time of a process.
pub fn stat(pid: i32) -> io::Result<(u8, u64)> {
    use std::io::Read;
    let mut buffer = [0u8; 1024];
    let length = std::fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let text = &buffer[..length];
    let end = text
        .iter()
        .rposition(|byte| *byte == b')')
        .ok_or_else(invalid)?;
    let rest = std::str::from_utf8(&text[end + 1..]).map_err(|_| invalid())?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields
        .next()
        .and_then(|field| field.bytes().next())
        .ok_or_else(invalid)?;
    let start = fields
        .nth(18)
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)?;
    Ok((state, start))
}

/// The number of the process, in the caller's PID namespace; from `/proc/self/fdinfo`.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|value| value.trim().parse().ok());
    pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Copies a descriptor out of another process (pidfd_getfd(2)).
pub fn get_fd(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_getfd(
        pidfd,
        number,
        rustix::process::PidfdGetfdFlags::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    #[expect(clippy::zombie_processes, reason = "the pidfd reaps it")]
    fn a_child_is_signalled_and_reaped() {
        let child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = open(pid).unwrap();
        assert_eq!(pid_of(pidfd.as_fd()).unwrap(), pid);
        assert!(start_time(pid).unwrap() > 0);
        assert_eq!(try_wait(pidfd.as_fd()).unwrap(), None);
        send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        assert!(wait_end(pidfd.as_fd(), -1).unwrap());
        assert_eq!(wait(pidfd.as_fd()).unwrap(), Exit::Signal(libc::SIGKILL));
        assert!(open(pid).is_err());
    }
}
