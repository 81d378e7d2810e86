//! Processes: a copy of the caller in new namespaces, credentials, limits, and execution.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bits of namespaces(7), as clone(2) takes them.
pub mod namespace {
    pub const TIME: u64 = 0x0000_0080;
    pub const MOUNT: u64 = 0x0002_0000;
    pub const CGROUP: u64 = 0x0200_0000;
    pub const UTS: u64 = 0x0400_0000;
    pub const IPC: u64 = 0x0800_0000;
    pub const USER: u64 = 0x1000_0000;
    pub const PID: u64 = 0x2000_0000;
    pub const NET: u64 = 0x4000_0000;
}

/// A child made by [`copy`].
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// struct clone_args of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Copies the calling process, which must have one thread, into new namespaces (bits of [`namespace`]), and into a cgroup of
/// version 2 when one is given. The child runs `body` and ends with its answer as exit code.
pub fn copy(
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has its own copy of all memory, and the caller has one thread, so that no lock is
    // held by a thread that the child lacks.
    let mut pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
        && cgroup.is_none()
    {
        let flags = args.flags | args.exit_signal;
        let no_stack = std::ptr::null::<u8>();
        // SAFETY: as above; clone(2) on x86-64 takes flags, stack, parent_tid (here the pidfd), child_tid and tls.
        pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                flags,
                no_stack,
                &raw mut pidfd,
                no_stack,
                0,
            )
        };
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // A panic must not unwind into the copy of the caller's frames.
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(70);
        // SAFETY: ends the child without running anything of the caller's.
        unsafe { libc::_exit(code) }
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child {
        pid: i32::try_from(pid).unwrap_or(0),
        pidfd,
    })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// setns(2): joins a namespace, or with a pidfd several of a process's.
pub fn join(descriptor: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setns, descriptor.as_raw_fd(), namespaces) })
}

/// unshare(2).
pub fn unshare(namespaces: u64) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespaces) })
}

/// Real, effective and saved ids of both kinds, and supplementary groups when there are any to set.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        // SAFETY: pointer and length belong to one live slice.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: only used with options that take numbers.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, value, 0, 0, 0) })
}

/// PR_SET_NO_NEW_PRIVS.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// PR_SET_DUMPABLE: whether others may look into this process through `/proc`.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// PR_SET_PDEATHSIG with SIGKILL: this process does not outlive its parent.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.cast_unsigned().into())
}

/// Sets a resource limit by its number.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel reads one struct.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<u8>(),
        )
    })
}

/// The hard value of a resource limit.
pub fn hard_limit(resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one struct.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<u8>(),
            &raw mut limit,
        )
    })?;
    Ok(limit.rlim_max)
}

/// The number of a limit named as in `RLIMIT_NOFILE`.
pub fn limit_number(name: &str) -> Option<u32> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "CPU" => libc::RLIMIT_CPU,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "DATA" => libc::RLIMIT_DATA,
        "STACK" => libc::RLIMIT_STACK,
        "CORE" => libc::RLIMIT_CORE,
        "RSS" => libc::RLIMIT_RSS,
        "NPROC" => libc::RLIMIT_NPROC,
        "NOFILE" => libc::RLIMIT_NOFILE,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "AS" => libc::RLIMIT_AS,
        "LOCKS" => libc::RLIMIT_LOCKS,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

/// A new session keyring, which no other container shares (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING). It has no name of its own:
/// nobody can join it, and the kernel need not look for another one of the name.
pub fn join_session_keyring() -> io::Result<()> {
    let unnamed = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel takes a null pointer for a new keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, unnamed) })
}

/// personality(2).
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

/// set_mempolicy(2): mode with its flags, and a mask of nodes.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told of.
    let bits = match nodes.len() {
        0 => 0,
        words => words * 64 + 1,
    };
    let mask = match nodes {
        [] => std::ptr::null(),
        nodes => nodes.as_ptr(),
    };
    // SAFETY: the kernel reads as many bits as the slice has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// sched_setaffinity(2) of the calling process, to a mask of processors.
pub fn set_affinity(processors: &[u64]) -> io::Result<()> {
    // SAFETY: pointer and length belong to one live slice.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(processors),
            processors.as_ptr(),
        )
    })
}

/// ioprio_set(2) of the calling process; class 1 to 3.
pub fn set_io_priority(class: i32, level: i32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) })
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length belong to one live string.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) })
}

/// What sched_setattr(2) takes; times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulerAttributes {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets the scheduler of the calling process.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = u32::try_from(size_of::<SchedulerAttributes>()).unwrap_or(0);
    // SAFETY: the kernel reads one struct of the size it says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Unblocks all signals and sets them to their defaults, as a new program expects.
pub fn reset_signals() {
    // The kernel's struct sigaction: handler, flags, restorer and mask. The C library would refuse its own two signals.
    let default = [0_u64; 4];
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no handler; refusals (SIGKILL, SIGSTOP) do not matter.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    let none = [0_u64];
    let old = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads one set of 64 signals.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            old,
            8,
        )
    };
}

/// Marks all descriptors from `first` on to be closed when a program is executed.
pub fn close_on_execute_from(first: u32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// execve(2); comes back only with an error.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts
            .iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer and their strings are alive.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Whether this process lives in a user namespace that is not the first one: that one maps every id to itself.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}
