//! The kernel: safe functions over descriptors, one file per area. The only crate that may say `unsafe`; it knows nothing
//! of containers. Errors are `std::io::Error`s that carry the errno.

#![expect(unsafe_code, reason = "system calls are made here and nowhere else")]

pub mod pidfd;
pub mod pty;
pub mod socket;
