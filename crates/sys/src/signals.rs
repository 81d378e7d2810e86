//! Signals as events: blocked, and read from a descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Blocks every signal that can be blocked, so that none is lost before [`read`] asks for it.
pub fn block_all() -> io::Result<()> {
    // SAFETY: all bytes zero is a valid signal set, which sigfillset then fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid place to write to.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads one valid set.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A descriptor that all blocked signals can be read from (signalfd(2)).
pub fn descriptor() -> io::Result<OwnedFd> {
    // SAFETY: all bytes zero is a valid signal set, which sigfillset then fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid place to write to.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads one valid set.
    let fd = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for a signal and answers its number.
pub fn read(descriptor: BorrowedFd<'_>) -> io::Result<i32> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    loop {
        // SAFETY: the kernel writes at most the size of the struct.
        let count = unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if count == size.cast_signed() {
            // SAFETY: the kernel has filled the whole struct.
            let info = unsafe { info.assume_init() };
            return Ok(info.ssi_signo.cast_signed());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// kill(2); 0 and -1 are refused, since they mean many.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid < 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes no pointers.
    if unsafe { libc::kill(pid, signal) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
