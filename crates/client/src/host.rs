//! The address of a daemon: `unix:///path`, `tcp://host:port` or `ssh://user@host`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::ClientError;

/// The socket a daemon listens on when nothing is said.
pub const DEFAULT_SOCKET: &str = "/var/run/cais.sock";

/// [`DEFAULT_SOCKET`] as a host.
pub const DEFAULT_HOST: &str = "unix:///var/run/cais.sock";

/// A daemon's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port of a TCP socket, and what follows as a path prefix (usually nothing).
    Tcp {
        /// `host:port`.
        address: String,
        /// `/prefix`, or empty.
        prefix: String,
    },
    /// A daemon behind SSH; kept as written.
    Ssh(String),
}

impl FromStr for Host {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(ClientError::Configuration(format!(
                "unable to parse docker host `{text}`"
            )));
        };
        match scheme {
            "unix" => Ok(Self::Unix(if rest.is_empty() {
                PathBuf::from("/var/run/docker.sock")
            } else {
                PathBuf::from(rest)
            })),
            "tcp" | "http" => Ok(tcp(rest)),
            "ssh" => Ok(Self::Ssh(text.to_owned())),
            _ => Err(ClientError::Configuration(format!(
                "invalid bind address format: {text}"
            ))),
        }
    }
}

fn tcp(rest: &str) -> Host {
    let (address, prefix) = match rest.find('/') {
        Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let (name, port) = match address.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (address, ""),
    };
    let name = if name.is_empty() { "localhost" } else { name };
    let port = if port.is_empty() { "2375" } else { port };
    Host::Tcp {
        address: format!("{name}:{port}"),
        prefix: prefix.to_owned(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, prefix } => write!(f, "tcp://{address}{prefix}"),
            Self::Ssh(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        let tcp = |address: &str, prefix: &str| Host::Tcp {
            address: address.into(),
            prefix: prefix.into(),
        };
        let cases = [
            ("unix:///run/x.sock", Host::Unix("/run/x.sock".into())),
            ("unix://", Host::Unix("/var/run/docker.sock".into())),
            ("tcp://10.0.0.1:2376", tcp("10.0.0.1:2376", "")),
            ("tcp://[::1]:2375", tcp("[::1]:2375", "")),
            ("tcp://[::1]", tcp("[::1]:2375", "")),
            ("tcp://:1", tcp("localhost:1", "")),
            ("tcp://h:1/a/", tcp("h:1", "/a")),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Host>().unwrap(), want, "{text}");
        }
        let error = "foo://x".parse::<Host>().unwrap_err();
        assert_eq!(error.to_string(), "invalid bind address format: foo://x");
    }
}
