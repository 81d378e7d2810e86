//! Capability sets of the calling thread: capset(2) and the capability operations of prctl(2).

use std::io;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The three sets of capset(2), bit n for capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSets {
    /// In force now.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// Kept over execve(2) by files that say so.
    pub inheritable: u64,
}

fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

fn control(option: libc::c_int, one: libc::c_ulong, two: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the operations used here take plain numbers.
    let answer = unsafe { libc::prctl(option, one, two, 0 as libc::c_ulong, 0 as libc::c_ulong) };
    check(answer.into()).map(|_| answer)
}

/// Reads the calling thread's sets.
pub fn process() -> io::Result<ProcessSets> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two data records.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(ProcessSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets the calling thread's sets.
pub fn set_process(sets: ProcessSets) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two data records.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Whether a capability is in the bounding set; `EINVAL` past the kernel's last one.
pub fn in_bounding_set(number: u32) -> io::Result<bool> {
    control(libc::PR_CAPBSET_READ, number.into(), 0).map(|answer| answer == 1)
}

/// Takes a capability out of the bounding set for good; needs `CAP_SETPCAP`.
pub fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    control(libc::PR_CAPBSET_DROP, number.into(), 0).map(drop)
}

/// Keeps the permitted set when all user ids become nonzero (`PR_SET_KEEPCAPS`).
pub fn set_keep(keep: bool) -> io::Result<()> {
    control(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    control(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
        0,
    )
    .map(drop)
}

/// Adds a permitted and inheritable capability to the ambient set.
pub fn raise_ambient(number: u32) -> io::Result<()> {
    control(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
        number.into(),
    )
    .map(drop)
}
