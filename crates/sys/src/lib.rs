//! The kernel: safe functions over descriptors, one file per area. The only crate that may say `unsafe`; it knows nothing
//! of containers. Errors are `std::io::Error`s that carry the errno.

#![expect(unsafe_code, reason = "system calls are made here and nowhere else")]

pub mod bpf;
pub mod capability;
pub mod datagrams;
pub mod exe;
pub mod failpoint;
pub mod heap;
pub mod inherit;
pub mod launch;
pub mod mntns;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nss;
pub mod overlay;
pub mod path_in_root;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod tree;
