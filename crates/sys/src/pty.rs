//! Pseudo terminals: opening a pair from a given devpts, raw mode, size, and becoming the controlling terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, Winsize};

/// Opens a pair from the host's devpts: (controller, terminal).
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    pair(rustix::fs::open("/dev/ptmx", flags, Mode::empty())?)
}

/// Opens a pair from the devpts mount that `directory` is the root of: (controller, terminal).
pub fn open_in(directory: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    pair(rustix::fs::openat(directory, "ptmx", flags, Mode::empty())?)
}

fn pair(controller: OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    unlock(controller.as_fd())?;
    let terminal = peer(controller.as_fd())?;
    Ok((controller, terminal))
}

fn unlock(controller: BorrowedFd<'_>) -> io::Result<()> {
    let zero: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    let result = unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCSPTLCK, &raw const zero) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Opens the terminal end of a controller without going by a path (TIOCGPTPEER).
pub fn peer(controller: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes its argument by value.
    let fd = unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Number of the terminal, the N of `/dev/pts/N`.
pub fn number(controller: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    let result = unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(number)
}

/// Sets the size of a terminal.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Rows and columns of a terminal.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Whether the descriptor is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

/// Makes the terminal the controlling one of the calling session leader.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

/// Puts a terminal into raw mode and answers what it was in.
pub fn make_raw(terminal: BorrowedFd<'_>) -> io::Result<Termios> {
    let before = rustix::termios::tcgetattr(terminal)?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
    Ok(before)
}

/// Brings back what [`make_raw`] answered.
pub fn restore(terminal: BorrowedFd<'_>, before: &Termios) -> io::Result<()> {
    Ok(rustix::termios::tcsetattr(
        terminal,
        OptionalActions::Now,
        before,
    )?)
}

/// Switches off that newlines become carriage return and newline, as runc does for detached consoles.
pub fn clear_onlcr(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(terminal)?;
    modes
        .output_modes
        .remove(rustix::termios::OutputModes::ONLCR);
    Ok(rustix::termios::tcsetattr(
        terminal,
        OptionalActions::Now,
        &modes,
    )?)
}

/// Whether the descriptor is a node of a devpts file system (major 136 to 143), and not something put in its place.
pub fn is_devpts_terminal(fd: BorrowedFd<'_>) -> io::Result<bool> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let kind = rustix::fs::fstatfs(fd.as_fd())?.f_type;
    let device = rustix::fs::major(rustix::fs::fstat(fd)?.st_rdev);
    Ok(kind == DEVPTS_SUPER_MAGIC && (136..=143).contains(&device))
}
