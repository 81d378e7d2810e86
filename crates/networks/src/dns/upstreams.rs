//! Which resolvers questions are passed on to, and from where.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::files::Resolvers;

/// How long what is known of the host's file is believed.
const FRESH: Duration = Duration::from_millis(200);
/// As many resolvers as resolv.conf(5) allows.
const MOST: usize = 3;

/// Whose network namespace a resolver is asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The host's: a stub on its loopback address, or a scope of its links.
    Host,
    /// The container's, so that its routes and the host's rules for it hold; the host's where it has no route.
    Container,
}

/// A resolver outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is asked from.
    pub place: Place,
}

/// The resolvers that a container was given (`--dns`): a loopback address is its own.
pub fn given(servers: &[String]) -> Vec<Upstream> {
    all(servers, Place::Container)
}

fn all(servers: &[String], loopback: Place) -> Vec<Upstream> {
    let mut found: Vec<Upstream> = servers
        .iter()
        .filter_map(|text| one(text, loopback))
        .collect();
    found.dedup();
    found.truncate(MOST);
    found
}

fn one(text: &str, loopback: Place) -> Option<Upstream> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    if let (IpAddr::V6(address), Some(zone)) = (address, zone) {
        let scope = zone.parse().ok().or_else(|| interface(zone))?;
        return Some(Upstream {
            address: SocketAddrV6::new(address, 53, 0, scope).into(),
            place: Place::Host,
        });
    }
    let place = if address.is_loopback() {
        loopback
    } else {
        Place::Container
    };
    let address = SocketAddr::new(address, 53);
    Some(Upstream { address, place })
}

fn interface(name: &str) -> Option<u32> {
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    index.ok()?.trim().parse().ok()
}

/// The host's resolv.conf, read again when it changes.
#[derive(Debug)]
pub struct HostFile {
    path: PathBuf,
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    upstreams: Vec<Upstream>,
}

impl HostFile {
    /// Nothing is read before the first question.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            looked: None,
            stamp: None,
            upstreams: Vec::new(),
        }
    }

    /// The resolvers it names now.
    pub fn upstreams(&mut self, now: Instant) -> &[Upstream] {
        let fresh = |looked: Instant| now.saturating_duration_since(looked) < FRESH;
        if self.looked.is_some_and(fresh) {
            return &self.upstreams;
        }
        self.looked = Some(now);
        let metadata = std::fs::metadata(&self.path);
        let stamp = metadata
            .and_then(|one| Ok((one.modified()?, one.len())))
            .ok();
        if stamp.is_none() || stamp != self.stamp {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            self.upstreams = all(&Resolvers::parse(&text).nameservers, Place::Host);
            self.stamp = stamp;
        }
        &self.upstreams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_of_the_host_are_asked_from_the_host_and_others_from_the_container() {
        let given = given(&["127.0.0.1".into(), "192.0.2.7".into(), "nonsense".into()]);
        assert_eq!(given.len(), 2);
        assert_eq!(given[0].place, Place::Container);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.53\nnameserver fe80::1%lo\n").unwrap();
        let mut host = HostFile::new(&path);
        let start = Instant::now();
        let places: Vec<_> = host.upstreams(start).iter().map(|one| one.place).collect();
        assert_eq!(places, [Place::Host, Place::Host]);
        std::fs::write(&path, "nameserver 192.0.2.9\n").unwrap();
        assert_eq!(
            host.upstreams(start).len(),
            2,
            "not looked at again at once"
        );
        let later = host.upstreams(start + FRESH);
        assert_eq!(later[0].address, "192.0.2.9:53".parse().unwrap());
        assert_eq!(later[0].place, Place::Container);
        std::fs::remove_file(&path).unwrap();
        assert!(host.upstreams(start + 2 * FRESH).is_empty());
    }
}
