//! Netlink without helpers: messages, sockets, and the few rtnetlink requests that networks are made of.

pub mod child;
pub mod link;
pub mod message;
pub mod route;
pub mod socket;

pub use message::{Attributes, Message, Messages, messages};
pub use socket::{NetlinkError, Socket};

/// `NLM_F_REQUEST`: every request has it.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel answers even when nothing went wrong.
pub const ACK: u16 = 0x4;
/// `NLM_F_REPLACE`: put it in the place of the object that exists.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: fail when the object exists.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`: make the object when it is missing.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: add at the end.
pub const APPEND: u16 = 0x800;
/// `NLM_F_ROOT | NLM_F_MATCH`: all objects of a kind.
pub const DUMP: u16 = 0x300;
