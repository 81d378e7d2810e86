//! seccomp filters: our own compiler from the OCI description to classic BPF, Docker's default profile and the reader of
//! Docker's profile files. Called by the runtime's init (install) and by the engine (profiles).
//!
//! The meaning of a filter is that of runc with libseccomp: native calls always take part, calls of an undeclared
//! architecture kill the thread, unknown names are skipped, and calls newer than every name in the filter answer
//! `ENOSYS`, so that a C library falls back to what it used before.

mod assembler;
mod document;
mod profile;
mod rules;
mod syscalls;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

use cais_sys::seccomp::{FilterFlags, Instruction, install};
use cais_types::ErrorClass;

use crate::spec::LinuxSeccomp;

pub use document::{ProfileError, parse_profile};
pub use profile::default_profile;

/// Actions a filter may name, for the runtime's `features`.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Operators a filter may name, for the runtime's `features`.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Architectures whose calls a filter can decide; others may be named and have no effect.
pub const ARCHITECTURES: [&str; 3] = ["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

/// Flags a filter may name, for the runtime's `features`.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Longest filter the kernel takes, in instructions.
const MAX_INSTRUCTIONS: usize = 4096;

/// Why a filter cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not one of `SCMP_ACT_*`.
    #[error("string {0} is not a valid action for seccomp")]
    UnknownAction(String),
    /// Not one of `SCMP_CMP_*`.
    #[error("string {0} is not a valid operator for seccomp")]
    UnknownOperator(String),
    /// Not one of `SCMP_ARCH_*`.
    #[error("string {0} is not a valid arch for seccomp")]
    UnknownArchitecture(String),
    /// Not one of `SECCOMP_FILTER_FLAG_*`.
    #[error("seccomp flag \"{0}\" is not known")]
    UnknownFlag(String),
    /// A call has six arguments.
    #[error("seccomp argument index {0} is above 5")]
    ArgumentIndex(u32),
    /// The error number does not fit.
    #[error("seccomp errnoRet {0} is out of range")]
    ErrnoRange(u32),
    /// `SCMP_ACT_NOTIFY` where it would stop the runtime itself.
    #[error("SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
    /// The program is above the kernel's limit.
    #[error("seccomp filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

impl SeccompError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

impl From<SeccompError> for cais_types::Error {
    fn from(error: SeccompError) -> Self {
        Self::new(error.class(), error.to_string()).with_source(error)
    }
}

/// A compiled filter, ready to be installed.
#[derive(Clone, Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: FilterFlags,
}

/// Compiles an OCI filter; needs no privilege and makes no system call.
pub fn compile(filter: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let flags = filter_flags(filter)?;
    let rules = rules::Rules::new(filter)?;
    let instructions = assembler::assemble(&rules);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    Ok(Program {
        instructions,
        flags,
    })
}

impl Program {
    /// The instructions, as the kernel reads them.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether [`Program::install`] will return a notification descriptor.
    pub fn has_listener(&self) -> bool {
        self.flags.new_listener
    }

    /// Installs the filter on the calling thread; needs `no_new_privs` or `CAP_SYS_ADMIN`. Returns the descriptor for
    /// `listenerPath` when a rule says `SCMP_ACT_NOTIFY`.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        install(&self.instructions, self.flags)
    }
}

/// Flags of the OCI description; without any, speculative store bypass is left alone as runc does.
fn filter_flags(filter: &LinuxSeccomp) -> Result<FilterFlags, SeccompError> {
    let mut flags = FilterFlags {
        spec_allow: filter.flags.is_empty(),
        ..FilterFlags::default()
    };
    for name in &filter.flags {
        match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => flags.tsync = true,
            "SECCOMP_FILTER_FLAG_LOG" => flags.log = true,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => flags.spec_allow = true,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => flags.wait_killable_recv = true,
            _ => return Err(SeccompError::UnknownFlag(name.clone())),
        }
    }
    flags.new_listener = filter
        .syscalls
        .iter()
        .any(|rule| rule.action == "SCMP_ACT_NOTIFY");
    // The kernel refuses this flag without a listener.
    flags.wait_killable_recv &= flags.new_listener;
    Ok(flags)
}
