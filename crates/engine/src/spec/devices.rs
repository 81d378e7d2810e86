//! Device nodes and device rules: Docker's default list, `--device`, `--device-cgroup-rule`, `--privileged`.

use std::path::{Path, PathBuf};

use cais_runtime::spec::{LinuxDevice, LinuxDeviceCgroup};
use cais_types::api::{DeviceMapping, HostConfig};
use cais_types::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Stat, major, minor, statat};

/// Directories below `/dev` that a privileged container gets afresh or not at all.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Nodes to make and rules to set.
#[derive(Debug, Default)]
pub struct Devices {
    pub nodes: Vec<LinuxDevice>,
    pub rules: Vec<LinuxDeviceCgroup>,
}

/// The devices of a container.
///
/// # Errors
/// `error gathering device information while adding custom device "x": no such file or directory`,
/// `invalid device cgroup rule format: 'x'`.
pub fn of(host: &HostConfig) -> Result<Devices> {
    if host.privileged {
        let mut devices = Devices {
            rules: vec![everything(true)],
            ..Devices::default()
        };
        walk(Path::new("/dev"), Path::new("/dev"), &mut devices.nodes);
        return Ok(devices);
    }
    let mut devices = Devices {
        rules: default_rules(),
        ..Devices::default()
    };
    for mapping in host.resources.devices.iter().flatten() {
        add_mapping(mapping, &mut devices)?;
    }
    for rule in host.resources.device_cgroup_rules.iter().flatten() {
        devices.rules.push(parse_rule(rule)?);
    }
    Ok(devices)
}

fn everything(allow: bool) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup {
        allow,
        access: Some("rwm".to_owned()),
        ..LinuxDeviceCgroup::default()
    }
}

fn rule(kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    }
}

/// Nothing, but making any node, and using null, full, zero, random, urandom, tty, console, ptmx and terminals.
fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![
        everything(false),
        rule("c", None, None, "m"),
        rule("b", None, None, "m"),
    ];
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        rules.push(rule("c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule("c", Some(136), None, "rwm"));
    rules
}

fn add_mapping(mapping: &DeviceMapping, devices: &mut Devices) -> Result<()> {
    let source = Path::new(&mapping.path_on_host);
    let target = match mapping.path_in_container.as_str() {
        "" => source,
        path => Path::new(path),
    };
    let access = match mapping.cgroup_permissions.as_str() {
        "" => "rwm",
        access => access,
    };
    let gathering = |what: &str| {
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\": {what}",
            mapping.path_on_host
        ))
    };
    if !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(Error::invalid(format!("invalid device mode: {access}")));
    }
    let stat = statat(CWD, source, AtFlags::empty())
        .map_err(|_| gathering("no such file or directory"))?;
    let first = devices.nodes.len();
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => walk(source, target, &mut devices.nodes),
        _ => devices.nodes.extend(node(target, &stat)),
    }
    if devices.nodes.len() == first {
        return Err(gathering("not a device node"));
    }
    for node in &devices.nodes[first..] {
        devices
            .rules
            .push(rule(&node.kind, Some(node.major), Some(node.minor), access));
    }
    Ok(())
}

fn node(path: &Path, stat: &Stat) -> Option<LinuxDevice> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(LinuxDevice {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: major(stat.st_rdev).into(),
        minor: minor(stat.st_rdev).into(),
        file_mode: Some(stat.st_mode & 0o7777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
    })
}

/// Collects the nodes below a directory; what vanishes meanwhile is passed over.
fn walk(source: &Path, target: &Path, nodes: &mut Vec<LinuxDevice>) {
    let Ok(entries) = std::fs::read_dir(source) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (path, inside): (PathBuf, PathBuf) = (entry.path(), target.join(&name));
        let Ok(stat) = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let skipped = source == Path::new("/dev") && SKIPPED.iter().any(|s| name == *s);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !skipped => walk(&path, &inside, nodes),
            _ if name == "console" || name == "ptmx" => {}
            _ => nodes.extend(node(&inside, &stat)),
        }
    }
}

/// Reads `c 42:* rmw`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| invalid()),
    };
    let known = matches!(kind, "a" | "b" | "c") && !access.is_empty();
    if !known || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(invalid());
    }
    Ok(rule(kind, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_deny_all_but_harmless_devices() {
        let devices = of(&HostConfig::default()).unwrap();
        assert!(!devices.rules[0].allow && devices.rules[0].kind.is_none());
        let usable: Vec<_> = devices.rules[1..]
            .iter()
            .filter(|rule| rule.access.as_deref() != Some("m"))
            .map(|rule| rule.major.unwrap())
            .collect();
        assert_eq!(usable, [1, 1, 1, 1, 1, 5, 5, 5, 136]);
        assert!(devices.nodes.is_empty());
    }

    #[test]
    fn a_device_gets_a_node_and_a_rule() {
        let mut host = HostConfig::default();
        let mapping = |host: &str| DeviceMapping {
            path_on_host: host.into(),
            path_in_container: "/dev/mine".into(),
            cgroup_permissions: "r".into(),
        };
        host.resources.devices = Some(vec![mapping("/dev/zero")]);
        let devices = of(&host).unwrap();
        assert_eq!((devices.nodes[0].major, devices.nodes[0].minor), (1, 5));
        assert_eq!(devices.nodes[0].path, Path::new("/dev/mine"));
        assert_eq!(devices.rules.last().unwrap().access.as_deref(), Some("r"));
        host.resources.devices = Some(vec![mapping("/dev/no-such-device")]);
        let error = of(&host).unwrap_err().to_string();
        assert!(error.starts_with("error gathering device information while adding custom device"));
    }

    #[test]
    fn rules_are_parsed() {
        let rule = parse_rule("c 42:* rw").unwrap();
        assert_eq!((rule.major, rule.minor), (Some(42), None));
        for bad in ["", "c 42 rw", "x 1:1 rw", "c 1:1 q", "c a:1 r", "c 1:1 r w"] {
            let error = parse_rule(bad).unwrap_err().to_string();
            assert_eq!(error, format!("invalid device cgroup rule format: '{bad}'"));
        }
    }
}
