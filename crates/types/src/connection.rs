//! A client's hijacked connection, on its way from the API to the monitor that will serve it.

use std::os::fd::OwnedFd;

/// How container output is laid on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Bytes as they come: terminals.
    Raw,
    /// Frames of an 8-byte header (`[stream, 0, 0, 0, length as big-endian u32]`) and a payload; Engine API `ContainerAttach`.
    Multiplexed,
}

/// A connected stream socket (unix, TCP, or one end of a socket pair) that the API has already answered with `101` or
/// `200` and now gives away. Whoever holds it writes output to it, reads standard input from it, and closes it at the end.
#[derive(Debug)]
pub struct ClientConnection {
    /// The socket itself, in blocking or non-blocking mode.
    pub socket: OwnedFd,
    /// Bytes the HTTP layer had read beyond the request; they are the start of standard input.
    pub unread: Vec<u8>,
}
