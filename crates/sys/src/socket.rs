//! Unix sockets: paths longer than `sun_path`, descriptors as ancillary data, and the peer's credentials.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Descriptors that one message can carry here.
pub const MAX_FDS: usize = 16;

/// `sun_path` with its final zero.
const SUN_PATH: usize = 108;

/// A connected pair of stream sockets, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// What a connected stream socket has sent and its peer has not read: 0, or some bytes (`SIOCOUTQ`, unix(7); the kernel
/// counts its buffers, not the payload).
pub fn unread_by_peer(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or_default())
}

/// A connected pair of packet sockets, closed on exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// A path short enough for `sun_path`; the descriptor, if any, must stay open while it is used.
fn short_path(path: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
    if path.as_os_str().len() < SUN_PATH {
        return Ok((None, path.to_owned()));
    }
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let name: &OsStr = path.file_name().ok_or_else(invalid)?;
    let parent = path.parent().ok_or_else(invalid)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    Ok((Some(directory), short))
}

/// Connects to a listening stream socket.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    connect_as(SocketType::STREAM, path)
}

/// Connects to a listening packet socket.
pub fn connect_packets(path: &Path) -> io::Result<OwnedFd> {
    connect_as(SocketType::SEQPACKET, path)
}

fn connect_as(kind: SocketType, path: &Path) -> io::Result<OwnedFd> {
    let (_directory, short) = short_path(path)?;
    let socket = socket(kind)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(&short)?)?;
    Ok(socket)
}

/// Binds and listens at a path that must not exist yet; `mode` are the permission bits of the socket file.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    listen_as(SocketType::STREAM, path, mode)
}

/// As [`listen`], for packets.
pub fn listen_packets(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    listen_as(SocketType::SEQPACKET, path, mode)
}

fn listen_as(kind: SocketType, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let (_directory, short) = short_path(path)?;
    let socket = socket(kind)?;
    // The mode of an unbound socket is the one its file gets, so that no moment is wider than wished.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&short)?)?;
    rustix::fs::chmod(&short, Mode::from_raw_mode(mode))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Takes the next connection; `WouldBlock` when the listener does not block and none waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Process id, user id and group id of the peer (SO_PEERCRED).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok((
        peer.pid.as_raw_nonzero().get(),
        peer.uid.as_raw(),
        peer.gid.as_raw(),
    ))
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, nonblocking);
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

/// Sends some bytes, and the descriptors along with the first of them. Answers how many bytes went. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let slices = [IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends all bytes over a blocking socket, and the descriptors along with the first of them.
pub fn send_all(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut sent = send(socket, bytes, fds)?;
    while sent < bytes.len() {
        sent += send(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Receives some bytes (0: the peer closed) and appends what descriptors came with them, closed on exec.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = loop {
        match rustix::net::recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(received.bytes)
}

/// Receives exactly as many bytes as fit; `UnexpectedEof` when the peer closed before.
pub fn receive_exact(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let count = receive(socket, &mut buffer[filled..], fds)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    Ok(())
}

/// Ends one or both directions of a connection.
pub fn shutdown(socket: BorrowedFd<'_>, how: std::net::Shutdown) -> io::Result<()> {
    let how = match how {
        std::net::Shutdown::Read => rustix::net::Shutdown::Read,
        std::net::Shutdown::Write => rustix::net::Shutdown::Write,
        std::net::Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(socket.as_fd(), how)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_the_peer_has_not_read_is_told() {
        let (left, right) = pair().unwrap();
        assert_eq!(unread_by_peer(&left).unwrap(), 0);
        send_all(left.as_fd(), b"hello", &[]).unwrap();
        assert!(unread_by_peer(&left).unwrap() > 0);
        let (mut buffer, mut fds) = ([0u8; 5], Vec::new());
        receive_exact(right.as_fd(), &mut buffer, &mut fds).unwrap();
        assert_eq!(unread_by_peer(&left).unwrap(), 0);
    }

    #[test]
    fn descriptors_travel_with_the_bytes() {
        let (left, right) = pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send_all(left.as_fd(), b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let (mut buffer, mut fds) = ([0u8; 5], Vec::new());
        receive_exact(right.as_fd(), &mut buffer, &mut fds).unwrap();
        assert_eq!(&buffer, b"hello");
        assert_eq!(fds.len(), 1);
        let mut file = std::fs::File::from(fds.remove(0));
        file.write_all(b"x").unwrap();
        drop(file);
        let mut text = String::new();
        std::fs::File::from(OwnedFd::from(reader))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "x");
        drop(left);
        assert_eq!(receive(right.as_fd(), &mut buffer, &mut fds).unwrap(), 0);
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_works() {
        let root = std::env::temp_dir().join(format!("cais-sys-socket-{}", std::process::id()));
        let directory = root.join("d".repeat(120));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("s.sock");
        let listener = listen(&path, 0o600).unwrap();
        let client = connect(&path).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        let (pid, uid, _) = peer_credentials(server.as_fd()).unwrap();
        assert_eq!(pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(uid, rustix::process::getuid().as_raw());
        drop(client);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
