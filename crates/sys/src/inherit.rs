//! What a fresh program has from the one that started it: descriptors and signal dispositions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that were given out already, a bit for each.
static TAKEN: [AtomicU64; MOST / 64] = [const { AtomicU64::new(0) }; MOST / 64];
/// Descriptors from here on are not handed over.
const MOST: usize = 4096;

/// Takes an inherited descriptor (3 to 4095) by its number, once, and sets close-on-exec. EBADF: it is not open or was taken
/// before. To be called before the program opens anything itself.
pub fn take(number: u16) -> io::Result<OwnedFd> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    if number < 3 || usize::from(number) >= MOST {
        return Err(bad());
    }
    let taken = &TAKEN[usize::from(number / 64)];
    let bit = 1_u64 << (number % 64);
    if taken.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
        return Err(bad());
    }
    // SAFETY: F_SETFD takes its argument by value; a closed number gives EBADF.
    if unsafe { libc::fcntl(number.into(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was inherited, and is given out only once.
    Ok(unsafe { OwnedFd::from_raw_fd(number.into()) })
}

/// Closes every inherited descriptor from `first` on. To be called before the program opens anything itself.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: by contract nothing in this program owns a descriptor there yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor from 3 on but `kept` and the `inherited` ones from 3 on: for a child that was copied from a program
/// with many, and that must never use or drop what owned the others.
pub fn close_others(inherited: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = kept
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .collect();
    numbers.sort_unstable();
    let mut first = 3 + inherited;
    for number in numbers.into_iter().chain(std::iter::once(u32::MAX)) {
        if number > first {
            // SAFETY: by contract nobody in this process uses a descriptor in the gap any more.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(number.saturating_add(1));
    }
    Ok(())
}

/// Ignores the signals that a terminal or an administrator sends to end a program: SIGHUP, SIGINT, SIGQUIT, SIGTERM, and
/// SIGPIPE. A program started from here must set them back.
pub fn ignore_end_signals() {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
    ] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
