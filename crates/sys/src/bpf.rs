//! bpf(2) as cgroup v2 device control needs it: load a `BPF_PROG_TYPE_CGROUP_DEVICE` program, attach it to a cgroup
//! directory, and replace or detach what is attached there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// One eBPF instruction, laid out as the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

#[repr(C)]
struct LoadAttribute {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    program_flags: u32,
}

#[repr(C)]
struct AttachAttribute {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_fd: u32,
}

#[repr(C)]
struct QueryAttribute {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    program_count: u32,
    padding: u32,
    program_attach_flags: u64,
}

#[repr(C)]
struct IdAttribute {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a live value of the size given; pointers inside it outlive the call in every caller.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

fn owned(descriptor: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }
}

/// Loads a device program; the verifier's refusal is `EINVAL` or `EACCES`. The descriptor is close-on-exec.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attribute = LoadAttribute {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        program_flags: 0,
    };
    call(BPF_PROG_LOAD, &mut attribute).map(owned)
}

/// Attaches a device program to a cgroup v2 directory, beside others or in place of `replaced` (atomic, Linux 5.6).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attribute = AttachAttribute {
        target_fd: cgroup.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | replaced.map_or(0, |_| BPF_F_REPLACE),
        replace_fd: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    call(BPF_PROG_ATTACH, &mut attribute).map(drop)
}

/// Detaches one device program from a cgroup v2 directory.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = AttachAttribute {
        target_fd: cgroup.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
        replace_fd: 0,
    };
    call(BPF_PROG_DETACH, &mut attribute).map(drop)
}

/// The device programs attached to this cgroup v2 directory itself, at most 64.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut attribute = QueryAttribute {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: ids.len() as u32,
        padding: 0,
        program_attach_flags: 0,
    };
    call(BPF_PROG_QUERY, &mut attribute)?;
    let count = (attribute.program_count as usize).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attribute = IdAttribute {
            id: *id,
            next_id: 0,
            open_flags: 0,
        };
        programs.push(call(BPF_PROG_GET_FD_BY_ID, &mut attribute).map(owned)?);
    }
    Ok(programs)
}
