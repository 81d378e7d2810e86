//! Which program has a port of the host: for the words of an error, so that what cannot be found out is left out.

use std::fs;
use std::net::IpAddr;

use super::{Protocol, PublishedPort};

/// State of a listener in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `nginx (process 1234)`.
pub fn of(port: &PublishedPort) -> Option<String> {
    let inode = inode(port)?;
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let process = entry.file_name();
        let Some(process) = process.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut links = descriptors.flatten().map(|one| fs::read_link(one.path()));
        if links.any(|link| link.is_ok_and(|link| link.as_os_str() == wanted.as_str())) {
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            return Some(format!("{} (process {process})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that is in the way (proc_net(5)).
fn inode(port: &PublishedPort) -> Option<String> {
    let file = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return None,
    };
    let tables = [file.to_owned(), format!("{file}6")];
    let texts = tables.map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
    texts
        .iter()
        .flatten()
        .flat_map(|text| text.lines().skip(1))
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, number) = words.get(1)?.split_once(':')?;
            let fits = u16::from_str_radix(number, 16) == Ok(port.port)
                && (port.protocol == Protocol::Udp || words.get(3) == Some(&LISTEN))
                && overlaps(address, port.address);
            fits.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
        })
}

/// Whether a socket at an address (hexadecimal, words in the machine's order) is in the way of one at another.
fn overlaps(hex: &str, address: IpAddr) -> bool {
    if hex.bytes().all(|digit| digit == b'0') || address.is_unspecified() {
        return true;
    }
    let own: String = match address {
        IpAddr::V4(address) => format!("{:08X}", u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let words = octets.chunks_exact(4).map(|word| {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(word);
                format!("{:08X}", u32::from_ne_bytes(bytes))
            });
            words.collect()
        }
    };
    hex == own
}
