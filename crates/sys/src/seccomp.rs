//! seccomp(2): the filter instruction and its installation.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Options of [`install`], as in seccomp(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterFlags {
    /// Applies the filter to all threads.
    pub tsync: bool,
    /// Logs all actions but ALLOW.
    pub log: bool,
    /// Leaves speculative store bypass as it is.
    pub spec_allow: bool,
    /// Returns a descriptor that receives `USER_NOTIF` calls.
    pub new_listener: bool,
    /// A notified call can only be interrupted by a fatal signal (Linux 5.19).
    pub wait_killable_recv: bool,
}

impl FilterFlags {
    fn bits(self) -> libc::c_ulong {
        const TSYNC: libc::c_ulong = 1;
        const LOG: libc::c_ulong = 1 << 1;
        const SPEC_ALLOW: libc::c_ulong = 1 << 2;
        const NEW_LISTENER: libc::c_ulong = 1 << 3;
        const TSYNC_ESRCH: libc::c_ulong = 1 << 4;
        const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
        let mut bits = 0;
        for (wanted, bit) in [
            (self.tsync, TSYNC),
            (self.log, LOG),
            (self.spec_allow, SPEC_ALLOW),
            (self.new_listener, NEW_LISTENER),
            (self.tsync && self.new_listener, TSYNC_ESRCH),
            (self.wait_killable_recv, WAIT_KILLABLE_RECV),
        ] {
            if wanted {
                bits |= bit;
            }
        }
        bits
    }
}

/// Installs a filter on the calling thread; needs `no_new_privs` or `CAP_SYS_ADMIN`.
///
/// Returns the notification descriptor (close-on-exec) when `new_listener` was asked for.
pub fn install(program: &[Instruction], flags: FilterFlags) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `filter` points at `length` instructions of the kernel's layout, which the call only reads.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags.bits(),
            &raw const filter,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    if answer == 0 || !flags.new_listener {
        // TSYNC without TSYNC_ESRCH names the thread that could not be synchronised.
        return if answer == 0 {
            Ok(None)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(answer as RawFd) }))
}

/// Tells whether the kernel knows an action value (`SECCOMP_GET_ACTION_AVAIL`).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes from a live variable.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        ) == 0
    }
}
