//! `-v source:destination[:options]`, the short way to write a bind mount or a named volume.

use cais_types::{Error, Result};

use super::{MountKind, MountRecord, clean};

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Reads one entry of `HostConfig.Binds`.
///
/// # Errors
/// `invalid volume specification: 'x'`, `invalid mode: x`, and Docker's texts about the destination.
pub fn parse_bind(text: &str) -> Result<MountRecord> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (first, second, third) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(invalid());
    }
    let (source, destination, mode) = match (second, third) {
        (None, _) => ("", first, ""),
        (Some(second), None) => (first, second, ""),
        (Some(second), Some(mode)) => (first, second, mode),
    };
    if destination.is_empty() || (second.is_some() && source.is_empty()) {
        return Err(invalid());
    }
    let is_path = source.starts_with('/');
    let kind = if is_path {
        MountKind::Bind
    } else {
        MountKind::Volume
    };
    check_destination(text, kind, destination)?;
    let mut mount = MountRecord::new(kind, clean(destination));
    if is_path {
        mount.source = clean(source);
        mount.create_source = true;
        mount.propagation = "rprivate".to_owned();
    } else {
        mount.name = source.to_owned();
        mount.anonymous = source.is_empty();
        mount.driver = "local".to_owned();
        mount.mode = "z".to_owned();
    }
    apply_mode(&mut mount, mode)?;
    Ok(mount)
}

fn check_destination(text: &str, kind: MountKind, destination: &str) -> Result<()> {
    if !destination.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{}\": invalid mount path: \
             '{destination}' mount path must be absolute",
            kind.as_str()
        )));
    }
    if clean(destination) == "/" {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{}\": invalid specification: \
             destination can't be '/'",
            kind.as_str()
        )));
    }
    Ok(())
}

fn apply_mode(mount: &mut MountRecord, mode: &str) -> Result<()> {
    if mode.is_empty() {
        return Ok(());
    }
    let invalid = || Error::invalid(format!("invalid mode: {mode}"));
    let (mut access, mut propagation, mut label, mut copy) = (0, 0, 0, 0);
    for option in mode.split(',') {
        match option {
            "ro" | "rw" => {
                access += 1;
                mount.writable = option == "rw";
            }
            // SELinux relabelling: taken, and without effect where SELinux is off.
            "z" | "Z" => label += 1,
            "nocopy" => {
                copy += 1;
                mount.no_copy = true;
            }
            // Docker Desktop's consistency words, without effect on Linux.
            "consistent" | "cached" | "delegated" => {}
            option if PROPAGATIONS.contains(&option) && mount.kind == MountKind::Bind => {
                propagation += 1;
                mount.propagation = option.to_owned();
            }
            _ => return Err(invalid()),
        }
    }
    let copy_on_bind = copy > 0 && mount.kind == MountKind::Bind;
    if access > 1 || propagation > 1 || label > 1 || copy > 1 || copy_on_bind {
        return Err(invalid());
    }
    mount.mode = mode.to_owned();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_named_volumes_are_told_apart() {
        let bind = parse_bind("/src/./a:/dst/:ro,rshared,z").unwrap();
        assert_eq!(
            (bind.kind, bind.source.as_str()),
            (MountKind::Bind, "/src/a")
        );
        assert_eq!((bind.destination.as_str(), bind.writable), ("/dst", false));
        assert_eq!(
            (bind.propagation.as_str(), bind.mode.as_str()),
            ("rshared", "ro,rshared,z")
        );
        let volume = parse_bind("data:/var/data:nocopy").unwrap();
        assert_eq!(
            (volume.kind, volume.name.as_str()),
            (MountKind::Volume, "data")
        );
        assert!(volume.no_copy && volume.writable);
        let anonymous = parse_bind("/only").unwrap();
        assert!(anonymous.anonymous && anonymous.kind == MountKind::Volume);
    }

    #[test]
    fn bad_specifications_are_refused_in_dockers_words() {
        for (text, part) in [
            ("", "invalid volume specification: ''"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            (":/x", "invalid volume specification: ':/x'"),
            ("/a:b", "mount path must be absolute"),
            ("/a:/", "destination can't be '/'"),
            ("/a:/b:what", "invalid mode: what"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:nocopy", "invalid mode: nocopy"),
            ("vol:/b:shared", "invalid mode: shared"),
        ] {
            let error = parse_bind(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
