//! Where clients come in: unix sockets with Docker's owner and mode, and TCP.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cais_types::{Error, Result};
use rustix::fs::{CWD, Gid};
use tokio::net::{TcpListener, UnixListener};

/// How long the socket of a killed daemon may seem to be served.
const PATIENCE: Duration = Duration::from_millis(500);

/// A socket that clients connect to.
pub enum Listener {
    Unix(UnixListener),
    /// Without encryption: whoever reaches it is root.
    Tcp(TcpListener),
}

/// Listens on a unix socket of mode 0660 that belongs to root and to `group` (a name or a number), if there is one. A
/// socket file that nobody serves is replaced. Must be called inside a tokio runtime.
///
/// # Errors
/// Conflict: somebody answers on it, or the path is something else; Internal: the kernel refuses.
pub fn unix_listener(path: &Path, group: &str) -> Result<UnixListener> {
    let failed = |error: io::Error| {
        Error::internal(format!(
            "can't create unix socket {}: {error}",
            path.display()
        ))
        .with_source(error)
    };
    clear_stale(path)?;
    let socket = cais_sys::socket::listen(path, 0o660).map_err(failed)?;
    if let Some(gid) = group_id(group) {
        let gid = Some(Gid::from_raw(gid));
        rustix::fs::chownat(CWD, path, None, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(errno.into()))?;
    }
    let socket = std::os::unix::net::UnixListener::from(socket);
    socket.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(socket).map_err(failed)
}

/// Listens on each of `unix://PATH` and `tcp://ADDRESS:PORT`. Must be called inside a tokio runtime.
///
/// # Errors
/// Invalid: the form of a host; Unsupported: another scheme; else as [`unix_listener`].
pub fn bind(hosts: &[String], group: &str) -> Result<Vec<Listener>> {
    hosts.iter().map(|host| bind_one(host, group)).collect()
}

fn bind_one(host: &str, group: &str) -> Result<Listener> {
    match host.split_once("://") {
        Some(("unix", path)) => unix_listener(Path::new(path), group).map(Listener::Unix),
        Some(("tcp", address)) => tcp_listener(address).map(Listener::Tcp),
        Some((scheme, _)) => Err(Error::unsupported(format!(
            "listening on {scheme}:// is not supported: use unix:// or tcp://"
        ))),
        None => Err(Error::invalid(format!(
            "invalid bind address format: {host}"
        ))),
    }
}

fn tcp_listener(address: &str) -> Result<TcpListener> {
    let failed = |error: io::Error| {
        Error::internal(format!("can't listen on tcp://{address}: {error}")).with_source(error)
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    if !listener.local_addr().map_err(failed)?.ip().is_loopback() {
        tracing::warn!("tcp://{address} is not encrypted: whoever reaches it is root on this host");
    }
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

fn clear_stale(path: &Path) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(Error::conflict(format!(
            "can't create unix socket {}: the path is there and is no socket",
            path.display()
        )));
    }
    if is_served(path) {
        return Err(Error::conflict(format!(
            "can't create unix socket {}: another daemon answers on it",
            path.display()
        )));
    }
    std::fs::remove_file(path).map_err(|error| {
        Error::internal(format!(
            "can't remove stale socket {}: {error}",
            path.display()
        ))
    })
}

/// Whether a daemon listens. A process that a killed daemon was just starting still has its socket, until it executes its
/// program.
fn is_served(path: &Path) -> bool {
    let end = Instant::now() + PATIENCE;
    while cais_sys::socket::connect(path).is_ok() {
        if Instant::now() >= end {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The number of a group, read from `/etc/group` alone, so that no name service is asked.
fn group_id(group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    let file = std::fs::read_to_string("/etc/group").ok()?;
    find_group(&file, group)
}

fn find_group(file: &str, group: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        number.parse().ok().filter(|_| name == group)
    })
}

/// Whether a TCP request's `Host` names this host by address or by a known name: a page that rebinds its own name to
/// this address does not.
pub fn host_is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{find_group, host_is_ours};

    #[test]
    fn groups_are_found_by_whole_name() {
        let file = "root:x:0:\ndockerx:x:7:\ndocker:x:998:a,b\n";
        assert_eq!(find_group(file, "docker"), Some(998));
        assert_eq!(find_group(file, "dock"), None);
    }

    #[test]
    fn foreign_host_names_are_refused() {
        let names = ["server".to_owned()];
        for ours in ["127.0.0.1:2375", "[::1]:2375", "localhost", "Server:2375"] {
            assert!(host_is_ours(ours, &names), "{ours}");
        }
        for foreign in [
            "evil.example:2375",
            "",
            "server.evil.example",
            "127.0.0.1.evil.example",
        ] {
            assert!(!host_is_ours(foreign, &names), "{foreign}");
        }
    }
}
