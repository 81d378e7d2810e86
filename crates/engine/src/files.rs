//! The three files every container gets from the engine: `hostname`, `hosts` and `resolv.conf`, kept in the container's
//! directory and bound into it. They are written in place, because a bind mount holds on to the inode.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const HOSTS_HEAD: &str = "127.0.0.1\tlocalhost\n\
::1\tlocalhost ip6-localhost ip6-loopback\n\
fe00::\tip6-localnet\n\
ff00::\tip6-mcastprefix\n\
ff02::1\tip6-allnodes\n\
ff02::2\tip6-allrouters\n";

/// Where the files of a container are.
#[derive(Clone, Debug)]
pub struct EtcFiles {
    directory: PathBuf,
}

impl EtcFiles {
    /// The files in a container's directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Path of the file that becomes `/etc/hostname`.
    pub fn hostname(&self) -> PathBuf {
        self.directory.join("hostname")
    }

    /// Path of the file that becomes `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.directory.join("hosts")
    }

    /// Path of the file that becomes `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.join("resolv.conf")
    }
}

/// Writes a file in place, keeping its inode; makes it with mode 0644 when it is missing.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// One own address of a container and the names for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    pub address: String,
    pub names: Vec<String>,
}

/// The text of `/etc/hosts`: loopback names, extra hosts, then the container's own addresses.
pub fn hosts_text(extra: &[(String, String)], own: &[OwnAddress]) -> String {
    hosts_text_after(HOSTS_HEAD.to_owned(), extra, own)
}

/// The same behind other lines than the usual loopback names: the host's own file for containers on its network.
pub fn hosts_text_after(
    mut text: String,
    extra: &[(String, String)],
    own: &[OwnAddress],
) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in extra {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    for entry in own {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    text
}

/// Adds lines for own addresses behind what the container made of the file.
///
/// # Errors
/// Those of reading and writing the file.
pub fn add_own(path: &Path, own: &[OwnAddress]) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    write_in_place(path, &hosts_text_after(text, &[], own))
}

/// Takes the lines of own addresses out, and leaves the others.
///
/// # Errors
/// Those of reading and writing the file.
pub fn remove_own(path: &Path, addresses: &[String]) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let own = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        addresses.iter().any(|address| address == first)
    };
    let lines: Vec<&str> = text.lines().filter(|line| !own(line)).collect();
    write_in_place(path, &(lines.join("\n") + "\n"))
}

/// Gives names another address: their line goes, and a new one comes behind the others.
///
/// # Errors
/// Those of reading and writing the file.
pub fn replace_names(path: &Path, entry: &OwnAddress) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let names = entry.names.join(" ");
    let same = |line: &&str| line.split_once('\t').is_some_and(|(_, have)| have == names);
    let mut kept: String = text
        .lines()
        .filter(|line| !same(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    kept = hosts_text_after(kept, &[], std::slice::from_ref(entry));
    write_in_place(path, &kept)
}

/// Splits `name:address` of `--add-host`; `host-gateway` becomes `gateway`.
pub fn extra_host(entry: &str, gateway: Option<std::net::IpAddr>) -> Option<(String, String)> {
    let (name, address) = entry.split_once(':').or_else(|| entry.split_once('='))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address == "host-gateway" {
        return gateway.map(|gateway| (name.to_owned(), gateway.to_string()));
    }
    Some((name.to_owned(), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_holds_loopback_extra_and_own_names() {
        let extra = extra_host("db:10.0.0.9", None).unwrap();
        let own = OwnAddress {
            address: "172.17.0.2".into(),
            names: vec!["web.example".into(), "web".into()],
        };
        let text = hosts_text(&[extra], &[own]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.0.0.9\tdb\n172.17.0.2\tweb.example web\n"),
            "{text}"
        );
        let gateway = extra_host(
            "host.docker.internal:host-gateway",
            Some([172, 17, 0, 1].into()),
        );
        assert_eq!(gateway.unwrap().1, "172.17.0.1");
        assert_eq!(
            extra_host("six:::1", None).unwrap(),
            ("six".into(), "::1".into())
        );
    }

    #[test]
    fn writing_in_place_keeps_the_inode() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("cais-hosts-{}", std::process::id()));
        write_in_place(&path, "one, longer").unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();
        write_in_place(&path, "two").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        std::fs::remove_file(&path).unwrap();
    }
}
