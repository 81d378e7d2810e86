//! `--mount`, `--volume` and `--tmpfs`.

use std::collections::BTreeMap;

use cais_types::api::{
    BindOptions, Empty, ImageOptions, Mount, MountDriver, TmpfsOptions, VolumeOptions,
};
use cais_types::size::ram_in_bytes;

use super::{Result, csv};
use cais_console::flags::parse_bool;

/// Checks one `--mount`.
///
/// # Errors
/// As [`parse`].
pub fn check(text: &str) -> Result<()> {
    parse(text).map(drop)
}

/// Reads one `--mount`.
///
/// # Errors
/// Docker's text for an unknown key, a bad value, a missing target, or options of another type.
pub fn parse(text: &str) -> Result<Mount> {
    let mut mount = Mount {
        r#type: "volume".into(),
        ..Mount::default()
    };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let Some(value) = value.or_else(|| is_switch(&key).then_some("true")) else {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        };
        set(&mut mount, &key, value, &field)?;
    }
    if mount.r#type.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    let kind = mount.r#type.as_str();
    let mixed = [
        ("volume", mount.volume_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
        ("image", mount.image_options.is_some()),
    ];
    if let Some((other, _)) = mixed.iter().find(|(name, set)| *set && *name != kind) {
        return Err(format!(
            "cannot mix '{other}-*' options with mount type '{kind}'"
        ));
    }
    if mount.read_only || mount.bind_options.is_none() {
        return Ok(mount);
    }
    recursive_needs_read_only(&mount)?;
    Ok(mount)
}

fn recursive_needs_read_only(mount: &Mount) -> Result<()> {
    let needs = |what: &str| {
        Err(format!(
            "option 'bind-recursive={what}' requires 'readonly' to be specified in conjunction"
        ))
    };
    match &mount.bind_options {
        Some(options) if options.read_only_non_recursive => needs("writable"),
        Some(options) if options.read_only_force_recursive => needs("readonly"),
        _ => Ok(()),
    }
}

fn is_switch(key: &str) -> bool {
    matches!(
        key,
        "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src"
    )
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<()> {
    let invalid = || format!("invalid value for {key}: {value}");
    let truth = || parse_bool(value).map_err(|_| invalid());
    let text = value.to_owned();
    match key {
        "type" => mount.r#type = value.to_ascii_lowercase(),
        "source" | "src" => mount.source = absolute(value),
        "target" | "dst" | "destination" => mount.target = text,
        "readonly" | "ro" => mount.read_only = truth()?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = truth()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "{}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                    "invalid value for bind-recursive"
                ));
            }
        },
        "bind-create-src" => bind(mount).create_mountpoint = truth()?,
        "volume-subpath" => volume(mount).subpath = text,
        "volume-nocopy" => {
            let no_copy = parse_bool(value)
                .map_err(|_| format!("invalid value for volume-nocopy: {value}"))?;
            volume(mount).no_copy = no_copy;
        }
        "volume-label" => put(&mut volume(mount).labels, value),
        "volume-driver" => driver(mount).name = text,
        "volume-opt" => put(&mut driver(mount).options, value),
        "image-subpath" => {
            mount
                .image_options
                .get_or_insert_with(ImageOptions::default)
                .subpath = text
        }
        "tmpfs-size" => tmpfs(mount).size_bytes = ram_in_bytes(value).map_err(|_| invalid())?,
        "tmpfs-mode" => tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?,
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount
        .volume_options
        .get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut MountDriver {
    volume(mount)
        .driver_config
        .get_or_insert_with(MountDriver::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount
        .tmpfs_options
        .get_or_insert_with(TmpfsOptions::default)
}

fn put(map: &mut BTreeMap<String, String>, entry: &str) {
    let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// A source that begins with a dot is a path of the working directory.
fn absolute(source: &str) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    match std::env::current_dir() {
        Ok(directory) => normal(&format!("{}/{source}", directory.display())),
        Err(_) => source.to_owned(),
    }
}

/// A path without `.`, `..` and doubled slashes, by its text alone.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `--volume` values: binds, and paths that get an anonymous volume.
pub fn volumes(entries: &[String]) -> (Vec<String>, BTreeMap<String, Empty>) {
    let mut binds = Vec::new();
    let mut anonymous = BTreeMap::new();
    for entry in entries {
        match entry.split_once(':') {
            Some((source, rest)) => binds.push(format!("{}:{rest}", absolute(source))),
            None => drop(anonymous.insert(entry.clone(), Empty {})),
        }
    }
    (binds, anonymous)
}

/// `--tmpfs` values: options by path.
pub fn tmpfs_map(entries: &[String]) -> BTreeMap<String, String> {
    let split = |entry: &String| {
        let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
        (path.to_owned(), options.to_owned())
    };
    entries.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!(
            (
                mount.source.as_str(),
                mount.target.as_str(),
                mount.read_only
            ),
            ("/a", "/b", true)
        );
        assert_eq!(mount.bind_options.unwrap().propagation, "rslave");
        let mount =
            parse("target=/v,source=data,volume-nocopy,volume-label=a=b,\"volume-opt=o=x,y\"")
                .unwrap();
        let options = mount.volume_options.unwrap();
        assert_eq!(mount.r#type, "volume");
        assert!(options.no_copy);
        assert_eq!(options.labels["a"], "b");
        assert_eq!(options.driver_config.unwrap().options["o"], "x,y");
        let mount = parse("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        let options = mount.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (1 << 20, 0o1770));
    }

    #[test]
    fn errors_are_dockers() {
        // Recorded from docker 28.2.2.
        let cases = [
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=bind", "target is required"),
            ("type=volume,dst=/x,ro=maybe", "invalid value for ro: maybe"),
            (
                "type=volume,foo=x,dst=/a",
                "unexpected key 'foo' in 'foo=x'",
            ),
            (
                "type=bind,src=/a,dst=/b,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn volumes_are_binds_or_anonymous() {
        let here = std::env::current_dir().unwrap();
        let (binds, anonymous) = volumes(&[
            "/a:/b:ro".into(),
            "./x:/y".into(),
            "name:/z".into(),
            "/c".into(),
        ]);
        assert_eq!(
            binds,
            [
                "/a:/b:ro".to_owned(),
                format!("{}/x:/y", here.display()),
                "name:/z".into()
            ]
        );
        assert_eq!(anonymous.keys().collect::<Vec<_>>(), ["/c"]);
    }
}
