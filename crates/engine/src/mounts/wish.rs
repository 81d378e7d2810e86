//! All mounts a container asks for, from `Binds`, `Mounts`, the image's volumes and `VolumesFrom`, in Docker's order of
//! precedence, one per destination.

use cais_types::api::{ContainerConfig, HostConfig, Mount};
use cais_types::{Error, Result};

use super::{MountKind, MountRecord, clean, parse_bind};

/// Collects the mounts. `other` finds the mounts of a container that `--volumes-from` names.
///
/// # Errors
/// `Duplicate mount point: /x`, `invalid mount config for type "bind": ...`, and those of `other`.
pub fn wishes(
    config: &ContainerConfig,
    host: &HostConfig,
    other: &dyn Fn(&str) -> Result<Vec<MountRecord>>,
) -> Result<Vec<MountRecord>> {
    let mut mounts: Vec<MountRecord> = Vec::new();
    for entry in host.volumes_from.iter().flatten() {
        for mount in from_other(entry, other)? {
            mounts.retain(|have| have.destination != mount.destination);
            mounts.push(mount);
        }
    }
    let mut own: Vec<MountRecord> = Vec::new();
    for entry in host.binds.iter().flatten() {
        let mut mount = parse_bind(entry)?;
        if mount.kind == MountKind::Volume && !host.volume_driver.is_empty() {
            mount.driver.clone_from(&host.volume_driver);
        }
        add(&mut own, mount)?;
    }
    for mount in &host.mounts {
        add(&mut own, from_mount(mount)?)?;
    }
    mounts.retain(|have| own.iter().all(|mine| mine.destination != have.destination));
    mounts.append(&mut own);
    if let Some(target) = host.tmpfs.keys().find(|target| !target.starts_with('/')) {
        return Err(Error::invalid(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    for path in config.volumes.iter().flatten().map(|(path, _)| clean(path)) {
        if path == "/" {
            return Err(Error::invalid(
                "invalid specification: destination can't be '/'",
            ));
        }
        let tmpfs = host.tmpfs.keys().any(|target| clean(target) == path);
        if !tmpfs && mounts.iter().all(|have| have.destination != path) {
            let mut mount = MountRecord::new(MountKind::Volume, path);
            mount.anonymous = true;
            mount.driver = driver_or_local(&host.volume_driver);
            mounts.push(mount);
        }
    }
    // Parents are mounted before what lies below them.
    mounts.sort_by(|a, b| {
        depth(a)
            .cmp(&depth(b))
            .then_with(|| a.destination.cmp(&b.destination))
    });
    Ok(mounts)
}

fn depth(mount: &MountRecord) -> usize {
    mount.destination.matches('/').count()
}

fn driver_or_local(driver: &str) -> String {
    if driver.is_empty() {
        "local".to_owned()
    } else {
        driver.to_owned()
    }
}

fn add(mounts: &mut Vec<MountRecord>, mount: MountRecord) -> Result<()> {
    if mounts
        .iter()
        .any(|have| have.destination == mount.destination)
    {
        return Err(Error::invalid(format!(
            "Duplicate mount point: {}",
            mount.destination
        )));
    }
    mounts.push(mount);
    Ok(())
}

fn from_other(
    entry: &str,
    other: &dyn Fn(&str) -> Result<Vec<MountRecord>>,
) -> Result<Vec<MountRecord>> {
    let (name, mode) = entry.split_once(':').unwrap_or((entry, "rw"));
    if name.is_empty() {
        return Err(Error::invalid(format!("invalid volumes-from: \"{entry}\"")));
    }
    let read_only = match mode {
        "rw" | "z" | "Z" | "rw,z" => false,
        "ro" | "ro,z" => true,
        _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
    };
    let mut mounts = other(name)?;
    mounts.retain(|mount| mount.kind != MountKind::Tmpfs);
    for mount in &mut mounts {
        mount.writable &= !read_only;
        // The other container has filled it already, and its source is there.
        (mount.no_copy, mount.create_source) = (true, false);
    }
    Ok(mounts)
}

fn from_mount(mount: &Mount) -> Result<MountRecord> {
    let invalid = |what: String| {
        Error::invalid(format!(
            "invalid mount config for type \"{}\": {what}",
            mount.r#type
        ))
    };
    let kind = match mount.r#type.as_str() {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        "image" | "cluster" => {
            return Err(Error::unsupported(format!(
                "mounts of type {} are not built",
                mount.r#type
            )));
        }
        "" => return Err(Error::invalid("mount type unknown: \"\"")),
        other => return Err(Error::invalid(format!("mount type unknown: \"{other}\""))),
    };
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".into()));
    }
    if !mount.target.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.target
        )));
    }
    if clean(&mount.target) == "/" {
        return Err(invalid(
            "invalid specification: destination can't be '/'".into(),
        ));
    }
    let odd = [
        (
            kind != MountKind::Bind && mount.bind_options.is_some(),
            "BindOptions",
        ),
        (
            kind != MountKind::Volume && mount.volume_options.is_some(),
            "VolumeOptions",
        ),
        (
            kind != MountKind::Tmpfs && mount.tmpfs_options.is_some(),
            "TmpfsOptions",
        ),
        (
            kind == MountKind::Tmpfs && !mount.source.is_empty(),
            "Source",
        ),
    ];
    if let Some((_, field)) = odd.iter().find(|(wrong, _)| *wrong) {
        return Err(invalid(format!("field {field} must not be specified")));
    }
    let mut record = MountRecord::new(kind, clean(&mount.target));
    record.writable = !mount.read_only;
    match kind {
        MountKind::Bind => bind(&mut record, mount, &invalid)?,
        MountKind::Volume => volume(&mut record, mount, &invalid)?,
        MountKind::Tmpfs => tmpfs(&mut record, mount),
    }
    Ok(record)
}

fn bind(record: &mut MountRecord, mount: &Mount, invalid: &dyn Fn(String) -> Error) -> Result<()> {
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty".into()));
    }
    if !mount.source.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    record.source = clean(&mount.source);
    record.propagation = "rprivate".to_owned();
    if let Some(options) = &mount.bind_options {
        record.create_source = options.create_mountpoint;
        record.non_recursive = options.non_recursive;
        record.read_only_non_recursive = options.read_only_non_recursive;
        match options.propagation.as_str() {
            "" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                record.propagation.clone_from(&options.propagation);
            }
            other => return Err(invalid(format!("invalid propagation mode: {other}"))),
        }
    }
    Ok(())
}

fn volume(
    record: &mut MountRecord,
    mount: &Mount,
    invalid: &dyn Fn(String) -> Error,
) -> Result<()> {
    if mount.source.is_empty() && mount.read_only {
        return Err(invalid(
            "must not set ReadOnly mode when using anonymous volumes".into(),
        ));
    }
    record.name.clone_from(&mount.source);
    record.anonymous = mount.source.is_empty();
    record.driver = "local".to_owned();
    record.mode = "z".to_owned();
    if let Some(options) = &mount.volume_options {
        record.no_copy = options.no_copy;
        record.subpath.clone_from(&options.subpath);
        let escapes =
            options.subpath.starts_with('/') || options.subpath.split('/').any(|p| p == "..");
        if escapes {
            return Err(invalid(
                "subpath must be a relative path within the volume".into(),
            ));
        }
        if let Some(driver) = &options.driver_config {
            record.driver = driver_or_local(&driver.name);
            if !driver.options.is_empty() {
                return Err(Error::unsupported(
                    "driver options in --mount are not built: make the volume first with volume create",
                ));
            }
        }
    }
    Ok(())
}

fn tmpfs(record: &mut MountRecord, mount: &Mount) {
    let Some(options) = &mount.tmpfs_options else {
        return;
    };
    if options.size_bytes > 0 {
        record
            .tmpfs_options
            .push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        record
            .tmpfs_options
            .push(format!("mode={:o}", options.mode));
    }
    for option in &options.options {
        record.tmpfs_options.push(option.join("="));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cais_types::api::Empty;

    fn none(_: &str) -> Result<Vec<MountRecord>> {
        Ok(Vec::new())
    }

    fn host(binds: &[&str], mounts: Vec<Mount>) -> HostConfig {
        HostConfig {
            binds: Some(binds.iter().map(|&bind| bind.to_owned()).collect()),
            mounts,
            ..HostConfig::default()
        }
    }

    #[test]
    fn every_destination_is_mounted_once_and_parents_first() {
        let config = ContainerConfig {
            volumes: Some(
                [
                    ("/data".to_owned(), Empty {}),
                    ("/log".to_owned(), Empty {}),
                ]
                .into(),
            ),
            ..ContainerConfig::default()
        };
        let host = host(&["/src:/a/b", "named:/data", "/up:/a"], Vec::new());
        let mounts = wishes(&config, &host, &none).unwrap();
        let places: Vec<_> = mounts
            .iter()
            .map(|mount| mount.destination.as_str())
            .collect();
        assert_eq!(places, ["/a", "/data", "/log", "/a/b"]);
        assert_eq!(mounts[1].name, "named");
        assert!(mounts[2].anonymous);
    }

    #[test]
    fn duplicates_and_wrong_fields_are_refused() {
        let twice = host(&["/x:/a", "/y:/a/"], Vec::new());
        let error = wishes(&ContainerConfig::default(), &twice, &none).unwrap_err();
        assert_eq!(error.to_string(), "Duplicate mount point: /a");
        for (kind, source, target, text) in [
            (
                "bind",
                "",
                "/x",
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                "tmpfs",
                "/s",
                "/x",
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                "volume",
                "v",
                "",
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
            ("odd", "v", "/x", "mount type unknown: \"odd\""),
        ] {
            let mount = Mount {
                r#type: kind.into(),
                source: source.into(),
                target: target.into(),
                ..Mount::default()
            };
            let host = host(&[], vec![mount]);
            let error = wishes(&ContainerConfig::default(), &host, &none).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn volumes_of_another_container_are_taken_over() {
        let other = |name: &str| {
            assert_eq!(name, "web");
            let mut volume = parse_bind("data:/data").unwrap();
            volume.source = "/volumes/data".into();
            Ok(vec![volume])
        };
        let host = HostConfig {
            volumes_from: Some(vec!["web:ro".into()]),
            ..HostConfig::default()
        };
        let mounts = wishes(&ContainerConfig::default(), &host, &other).unwrap();
        assert!(!mounts[0].writable && mounts[0].no_copy);
    }
}
